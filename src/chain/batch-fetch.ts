import { GembatchError } from "../core/errors.ts";
import type { Provider } from "../core/provider.ts";
import { fromHeaders } from "./call-options.ts";
import type { CallOptions } from "./context.ts";
import { parsePromptUrl, type PromptTarget } from "./prompt-url.ts";
import { parseBody, sendPrompt } from "./requests.ts";
import { storedResponse, type Answer } from "./stored-response.ts";
import { never } from "./entry-value.ts";
import type { Turn } from "./turn.ts";
import { turnStorage } from "./turn-scope.ts";

export interface BatchFetchOptions {
  /** The turn whose run the prompts belong to; by default the one that the calling code runs in. */
  turn?: Turn;
  providerFor: (api: PromptTarget["api"]) => Provider;
  maxAttempts: number;
  /**
   * How a failed request shows: `throw` the typed error (our own facade), or answer with a 400-class status (any SDK), which
   * no SDK retries on its own.
   */
  failures: "throw" | "respond";
  /** Everything that is not a prompt. */
  passThrough: typeof globalThis.fetch;
}

/** A `fetch` under which prompts become requests of the current run: the one transport for every SDK. */
export function createBatchFetch(options: BatchFetchOptions): typeof globalThis.fetch {
  return async (input, init) => {
    const url = typeof input === "string" ? input : input instanceof URL ? input.href : input.url;
    const method = init?.method ?? (input instanceof Request ? input.method : "GET");
    const target = method.toUpperCase() === "POST" ? parsePromptUrl(url) : undefined;
    if (!target) return options.passThrough(input, init);

    const scope = turnStorage.getStore();
    const turn = options.turn ?? scope?.turn;
    if (!turn) {
      throw new GembatchError("outside_of_run", "A prompt was called on the batch fetch outside of a chain.", {
        hint: "Use it inside the function of gembatch.chain() or gembatch.handler().",
      });
    }
    const slot = scope?.turn === turn ? scope.slot : undefined;
    if (slot?.answer) {
      const stored = slot.answer;
      slot.answer = undefined;
      return storedResponse(stored);
    }
    const call = typeof input === "string" && init?.headers === undefined ? {} : fromHeaders(headersOf(input, init));
    const text = typeof init?.body === "string" ? init.body : await new Request(input, init).text();
    const provider = options.providerFor(target.api);
    // Some SDKs call through pools and emitters that lose the async context; the turn of the fetch is the truth.
    const send = () => answer(turn, provider, target, text, call, options.maxAttempts);
    const openBefore = turn.openWaits;
    try {
      const answered = scope?.turn === turn ? send() : turnStorage.run({ turn, prefix: "", inStep: false }, send);
      if (slot?.park && turn.openWaits > openBefore) {
        slot.park(answered);
        return await never();
      }
      return storedResponse(await answered);
    } catch (error) {
      if (options.failures === "throw" || !GembatchError.is(error)) throw error;
      return errorResponse(error);
    }
  };
}

/** Not async functions: what waits for an answer must not keep the prompt in memory. */
function answer(
  turn: Turn,
  provider: Provider,
  target: PromptTarget,
  text: string,
  options: CallOptions,
  maxAttempts: number,
): Promise<Answer> {
  const { model, sse } = target;
  switch (target.method) {
    case "generateContent":
      return sendPrompt(turn, { provider, model, method: "generateContent", text, options }, maxAttempts).then(json);
    case "streamGenerateContent":
      return sendPrompt(turn, { provider, model, method: "generateContent", text, options }, maxAttempts).then((response) =>
        sse ? { text: `data: ${response}\n\n`, contentType: "text/event-stream" } : json(`[${response}]`),
      );
    case "embedContent":
      return sendPrompt(turn, { provider, model, method: "embedContent", text, options }, maxAttempts).then(json);
    case "batchEmbedContents":
      return embedAll(turn, provider, model, text, options, maxAttempts).then((responses) => {
        const embeddings = responses.map((response) => (JSON.parse(response) as { embedding?: unknown }).embedding ?? {});
        return json(JSON.stringify({ embeddings }));
      });
  }
}

/** One request per content: that is what a row of an embedding job holds. */
function embedAll(
  turn: Turn,
  provider: Provider,
  model: string,
  text: string,
  options: CallOptions,
  maxAttempts: number,
): Promise<string[]> {
  const { requests } = parseBody(text);
  const items = Array.isArray(requests) ? (requests as unknown[]) : [];
  return Promise.all(
    items.map((item, index) => {
      const own = options.key === undefined || items.length === 1 ? options : { ...options, key: `${options.key}/${index}` };
      return sendPrompt(turn, { provider, model, method: "embedContent", text: JSON.stringify(item), options: own }, maxAttempts);
    }),
  );
}

function json(text: string): Answer {
  return { text, contentType: "application/json" };
}

function headersOf(input: string | URL | Request, init: RequestInit | undefined): Headers {
  if (init?.headers === undefined) return input instanceof Request ? input.headers : new Headers();
  return init.headers instanceof Headers ? init.headers : new Headers(init.headers);
}

/** The failure as Google's APIs would say it. */
function errorResponse(error: GembatchError): Response {
  const cancelled = error.code === "request_cancelled";
  const status = cancelled ? 499 : 400;
  const body = {
    error: {
      code: status,
      message: error.message,
      status: cancelled ? "CANCELLED" : "FAILED_PRECONDITION",
      details: [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: error.code.toUpperCase(), domain: "gembatch" }],
    },
  };
  return storedResponse(json(JSON.stringify(body)), status);
}
