/**
 * One HTTP call and its whole answer.
 *
 * @module
 */
import { ProviderError, type ProviderJob } from "../../core/provider.ts";
import type { Answer } from "./http-errors.ts";

/** What the endings of one call mean; each makes a ProviderError. */
export interface CallErrors {
  answer: (answer: Answer) => ProviderError;
  thrown: (thrown: unknown) => ProviderError;
}

export interface RoundTrip {
  json: unknown;
  text: string;
  response: Response;
}

/** Sends once, reads the whole answer, and gives its JSON if the status is 2xx. Throws ProviderError for everything else. */
export async function roundTrip(
  errors: CallErrors,
  fetch: typeof globalThis.fetch,
  url: Parameters<typeof globalThis.fetch>[0],
  init: RequestInit,
): Promise<RoundTrip> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (thrown) {
    throw errors.thrown(thrown);
  }
  const answer = await readAnswer(errors, response);
  if (!response.ok) throw errors.answer(answer);
  try {
    return { json: JSON.parse(answer.body), text: answer.body, response };
  } catch {
    throw errors.answer(answer);
  }
}

export async function readAnswer(errors: CallErrors, response: Response): Promise<Answer> {
  try {
    return { status: response.status, body: await response.text(), retryAfter: response.headers.get("retry-after") };
  } catch (thrown) {
    throw errors.thrown(thrown);
  }
}

/** Aborts when the caller does, or after `ms`. */
export function withTimeout(signal: AbortSignal, ms: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(ms)]);
}

/** How a create call is sent. */
export interface Sending {
  signal: AbortSignal;
  /** Awaited as the very last thing before the request leaves; `false`: nothing may be sent. */
  beforeSend: () => Promise<boolean>;
}

/** A transport that lets one create call through, awaits `beforeSend` as the last thing before it, and reads the job from the raw answer. */
export class SendOnce {
  sent = false;
  job: ProviderJob | undefined;
  readonly fetch: typeof globalThis.fetch;

  constructor(
    options: { fetch: typeof globalThis.fetch; timeoutMs: number; errors: CallErrors; toJob: (json: unknown) => ProviderJob | undefined },
    { signal, beforeSend }: Sending,
  ) {
    const { errors } = options;
    this.fetch = async (url, init) => {
      if (this.sent) throw new ProviderError("ambiguous", "Could not create a batch job: the request was to be sent twice.");
      const limited = withTimeout(signal, options.timeoutMs);
      if (signal.aborted || !(await beforeSend()) || signal.aborted) {
        throw new ProviderError("unavailable", "The batch job was not created: the time in which that was safe is over, nothing was sent.");
      }
      this.sent = true;
      const { json, text, response } = await roundTrip(errors, options.fetch, url, { ...init, redirect: "manual", signal: limited });
      this.job = options.toJob(json);
      if (!this.job) throw errors.answer({ status: response.status, body: text });
      return new Response(text, { status: response.status, headers: { "content-type": "application/json" } });
    };
  }
}
