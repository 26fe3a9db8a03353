import { GembatchError } from "../core/errors.ts";
import type { Provider } from "../core/provider.ts";
import { fromHeaders } from "./call-options.ts";
import type { CallOptions } from "./context.ts";
import { parsePromptUrl, type PromptTarget } from "./prompt-url.ts";
import { sendPrompt } from "./requests.ts";
import { turnStorage, type Turn } from "./turn.ts";

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
    const call = fromHeaders(headersOf(input, init));
    const body = parseBody(typeof init?.body === "string" ? init.body : await new Request(input, init).text());
    const provider = options.providerFor(target.api);
    // Some SDKs call through pools and emitters that lose the async context; the turn of the fetch is the truth.
    const send = () => answer(turn, provider, target, body, call, options.maxAttempts);
    try {
      return await (scope?.turn === turn ? send() : turnStorage.run({ turn, prefix: "", inStep: false }, send));
    } catch (error) {
      if (options.failures === "throw" || !GembatchError.is(error)) throw error;
      return errorResponse(error);
    }
  };
}

async function answer(
  turn: Turn,
  provider: Provider,
  target: PromptTarget,
  body: Record<string, unknown>,
  options: CallOptions,
  maxAttempts: number,
): Promise<Response> {
  const { model } = target;
  switch (target.method) {
    case "generateContent":
      return jsonResponse(await sendPrompt(turn, { provider, model, method: "generateContent", body, options }, maxAttempts));
    case "streamGenerateContent": {
      const text = await sendPrompt(turn, { provider, model, method: "generateContent", body, options }, maxAttempts);
      return target.sse ? new Response(`data: ${text}\n\n`, { headers: { "content-type": "text/event-stream" } }) : jsonResponse(`[${text}]`);
    }
    case "embedContent": {
      return jsonResponse(await sendPrompt(turn, { provider, model, method: "embedContent", body, options }, maxAttempts));
    }
    case "batchEmbedContents": {
      const items = Array.isArray(body["requests"]) ? (body["requests"] as Record<string, unknown>[]) : [];
      const texts = await Promise.all(
        items.map((item, index) =>
          sendPrompt(
            turn,
            {
              provider,
              model,
              method: "embedContent",
              body: item,
              options: options.key === undefined || items.length === 1 ? options : { ...options, key: `${options.key}/${index}` },
            },
            maxAttempts,
          ),
        ),
      );
      const embeddings = texts.map((text) => (JSON.parse(text) as { embedding?: unknown }).embedding ?? {});
      return jsonResponse(JSON.stringify({ embeddings }));
    }
  }
}

function headersOf(input: string | URL | Request, init: RequestInit | undefined): Headers {
  if (init?.headers === undefined) return input instanceof Request ? input.headers : new Headers();
  return init.headers instanceof Headers ? init.headers : new Headers(init.headers);
}

function parseBody(text: string): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  } catch {
    // Reported below.
  }
  throw new GembatchError("invalid_argument", "The body of a prompt must be a JSON object.");
}

function jsonResponse(text: string, status = 200): Response {
  return new Response(text, { status, headers: { "content-type": "application/json" } });
}

/** The failure as Google's APIs would say it. */
function errorResponse(error: GembatchError): Response {
  const status = error.code === "request_cancelled" ? 499 : 400;
  return jsonResponse(
    JSON.stringify({
      error: {
        code: status,
        message: error.message,
        status: status === 499 ? "CANCELLED" : "FAILED_PRECONDITION",
        details: [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: error.code.toUpperCase(), domain: "gembatch" }],
      },
    }),
    status,
  );
}
