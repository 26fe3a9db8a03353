import { GembatchError } from "../core/errors.ts";
import type { Provider } from "../core/provider.ts";
import { fromHeaders } from "./call-options.ts";
import type { CallOptions } from "./context.ts";
import { parsePromptUrl, type PromptTarget } from "./prompt-url.ts";
import { parseBody, sendPrompt, withoutStream, type RequestDefaults } from "./requests.ts";
import { storedResponse, type Answer } from "./stored-response.ts";
import type { Turn } from "./turn.ts";
import { turnStorage } from "./turn-scope.ts";

export interface BatchFetchOptions {
  /** The turn whose run the prompts belong to; by default the one that the calling code runs in. */
  turn?: Turn;
  /** Whom a prompt goes to. */
  providerFor: (call: CallOptions, turn: Turn, api: PromptTarget["api"]) => Provider;
  defaults: RequestDefaults;
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
  const fail = failWith(options.failures);
  return async (input, init) => {
    const given = isRequest(input) ? input : undefined;
    const method = init?.method ?? given?.method ?? "GET";
    const called = method.toUpperCase() === "POST" ? parsePromptUrl(urlOf(input)) : undefined;
    if (!called) return options.passThrough(input, init);
    let text = typeof init?.body === "string" ? init.body : undefined;
    let target: PromptTarget | undefined = called;
    if (called.method === "chatCompletions") {
      target = chatTarget(called, (text ??= await bodyOf(given, init)));
      // Google's models can be asked in this form, too, but not in their jobs. What was read is not there a second time.
      if (!target) return options.passThrough(input, init?.body === text ? init : { ...init, body: text });
    }

    const scope = turnStorage.getStore();
    const turn = options.turn ?? scope?.turn;
    if (!turn) {
      throw new GembatchError("outside_of_run", "A prompt was called on the batch fetch outside of a chain.", {
        hint: "Use it inside the function of gembatch.chain() or gembatch.handler().",
      });
    }
    let answered: Promise<Answer>;
    try {
      const call = init?.headers === undefined && given === undefined ? {} : fromHeaders(headersOf(given, init));
      const body = text ?? (await bodyOf(given, init));
      const provider = options.providerFor(call, turn, target.api);
      // Some SDKs call through pools and emitters that lose the async context; the turn of the fetch is the truth.
      const send = () => answer(turn, provider, target, body, call, options.defaults);
      answered = scope?.turn === turn ? send() : turnStorage.run({ turn, prefix: "", inStep: false }, send);
    } catch (thrown) {
      return fail(thrown);
    }
    // Not awaited: the prompt would stay in memory until its answer is there.
    return answered.then((stored) => storedResponse(stored), fail);
  };
}

/** What becomes of a prompt that failed. */
function failWith(failures: BatchFetchOptions["failures"]): (thrown: unknown) => Response {
  return (thrown) => {
    const error = thrown instanceof RangeError ? tooDeep(thrown) : thrown;
    if (failures === "throw" || !GembatchError.is(error)) throw error;
    return errorResponse(error);
  };
}

/** Not async functions: what waits for an answer must not keep the prompt in memory. */
function answer(
  turn: Turn,
  provider: Provider,
  target: PromptTarget,
  text: string,
  options: CallOptions,
  defaults: RequestDefaults,
): Promise<Answer> {
  const { model, sse } = target;
  switch (target.method) {
    case "generateContent":
      return sendPrompt(turn, { provider, model, method: "generateContent", text, options }, defaults).then(json);
    case "streamGenerateContent":
      return sendPrompt(turn, { provider, model, method: "generateContent", text, options }, defaults).then((response) =>
        sse ? { text: `data: ${response}\n\n`, contentType: "text/event-stream" } : json(`[${response}]`),
      );
    case "embedContent":
      return sendPrompt(turn, { provider, model, method: "embedContent", text, options }, defaults).then(json);
    case "batchEmbedContents":
      return embedAll(turn, provider, model, text, options, defaults).then((responses) => {
        const embeddings = responses.map((response) => (JSON.parse(response) as { embedding?: unknown }).embedding ?? {});
        return json(JSON.stringify({ embeddings }));
      });
    case "rawPredict":
    case "chatCompletions":
      return sendPrompt(turn, { provider, model, method: "rawPredict", text, options }, defaults).then(json);
    case "streamRawPredict":
      throw withoutStream(model);
  }
}

/** The call with the model that its body names; `undefined` if that is none of another publisher. */
function chatTarget(called: PromptTarget, text: string): PromptTarget | undefined {
  let model: unknown;
  try {
    ({ model } = parseBody(text));
  } catch {
    return undefined;
  }
  return typeof model === "string" && /^(?!google\/)[\w-]+\/[^/\s]+$/.test(model) ? { ...called, model } : undefined;
}

/** One request per content: that is what a row of an embedding job holds. */
function embedAll(
  turn: Turn,
  provider: Provider,
  model: string,
  text: string,
  options: CallOptions,
  defaults: RequestDefaults,
): Promise<string[]> {
  const { requests: items } = parseBody(text);
  // All or none: what is refused must not leave others behind that nobody waits for.
  if (!Array.isArray(items) || !items.every(isObject)) {
    throw new GembatchError("invalid_argument", "The body of batchEmbedContents needs a list of requests.");
  }
  return Promise.all(
    items.map((item, index) => {
      const own = options.key === undefined || items.length === 1 ? options : { ...options, key: `${options.key}/${index}` };
      return sendPrompt(turn, { provider, model, method: "embedContent", text: JSON.stringify(item), options: own }, defaults);
    }),
  );
}

function json(text: string): Answer {
  return { text, contentType: "application/json" };
}

/** A Request of this realm or of a fetch library's own. */
function isRequest(input: Parameters<typeof globalThis.fetch>[0]): input is Request {
  return isObject(input) && typeof input["url"] === "string" && typeof input["method"] === "string";
}

/** Of a text, or of a URL or Request of any realm; empty for what is neither, which is the real fetch's to refuse. */
function urlOf(input: unknown): string {
  if (typeof input === "string") return input;
  const url = isObject(input) ? (input["href"] ?? input["url"]) : undefined;
  return typeof url === "string" ? url : "";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function headersOf(given: Request | undefined, init: RequestInit | undefined): Headers {
  if (init?.headers === undefined) return given?.headers ?? new Headers();
  try {
    return init.headers instanceof Headers ? init.headers : new Headers(init.headers);
  } catch (cause) {
    throw new GembatchError("invalid_argument", "The headers of a prompt are not valid HTTP headers.", { cause });
  }
}

async function bodyOf(given: Request | undefined, init: RequestInit | undefined): Promise<string> {
  try {
    if (init?.body === undefined || init.body === null) return (await given?.text()) ?? "";
    return await new Response(init.body).text();
  } catch (cause) {
    throw new GembatchError("invalid_argument", "The body of a prompt cannot be read.", {
      hint: "A stream can be read once; send the body as a text.",
      cause,
    });
  }
}

function tooDeep(cause: RangeError): GembatchError {
  return new GembatchError("invalid_argument", "The body of a prompt cannot be kept as JSON: it is nested too deeply, or too long.", {
    cause,
  });
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
