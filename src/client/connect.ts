/**
 * From options to parts: the one place that knows which stores and providers exist.
 *
 * @module
 */
import type { Clock } from "../core/clock.ts";
import { checkCodec, type PayloadCodec } from "../core/codec.ts";
import { describe, GembatchError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { checkMethods } from "../core/options.ts";
import type { Provider } from "../core/provider.ts";
import type { Store } from "../core/store.ts";
import { gemini } from "../providers/gemini/provider.ts";
import { createWebhookHandler, createWebhookVerifier, type WebhookVerifierOptions } from "../providers/gemini/webhook.ts";
import { codecStore } from "../stores/codec-store.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";

export const defaultStoreUrl = "sqlite:.gembatch/gembatch.db";

/** A store object as it is, or the store behind a URL: `sqlite:PATH`, `sqlite::memory:`. */
export function connectStore(store: string | Store | undefined, env: NodeJS.ProcessEnv, codec?: PayloadCodec, log?: Logger): Store {
  return codecStore(plainStore(store, env), checkCodec(codec), log);
}

function plainStore(store: string | Store | undefined, env: NodeJS.ProcessEnv): Store {
  if (typeof store === "object") return checkMethods(store, ["open", "close", "claimRuns"], "store");
  const url = store ?? env["GEMBATCH_STORE"] ?? defaultStoreUrl;
  if (typeof url !== "string") throw new GembatchError("invalid_option", `Option store must be a URL or a store, got ${describe(url)}.`);
  const match = /^sqlite:(?:\/\/)?(.+)$/.exec(url);
  if (match) return new SqliteStore({ path: match[1]! });
  throw new GembatchError(
    "invalid_option",
    `Option store is not a store URL that gembatch knows: ${describe(url.replace(/:\/\/[^@/]*@/, "://…@"))}.`,
    {
      hint: 'Known: "sqlite:PATH" (default "sqlite:.gembatch/gembatch.db") and "sqlite::memory:".',
    },
  );
}

/** A provider object as it is, or the one of that name with everything from the environment. */
export function connectProvider(provider: string | Provider | undefined, env: NodeJS.ProcessEnv): Provider {
  if (typeof provider === "object") return checkMethods(provider, ["createJob", "getJobs", "readResults"], "provider");
  const name = provider ?? env["GEMBATCH_PROVIDER"] ?? "gemini";
  if (name === "gemini") return gemini();
  throw new GembatchError("invalid_option", `Option provider names no provider that gembatch knows: ${describe(name)}.`, {
    hint: 'Known: "gemini".',
  });
}

/** How webhooks are told from forgeries. */
export type WebhookOptions = Omit<WebhookVerifierOptions, "now" | "fetch">;

export function connectWebhook(
  options: WebhookOptions,
  { clock, log, onHint }: { clock: Clock; log: Logger; onHint: () => Promise<void> },
): (request: Request) => Promise<Response> {
  const now = () => clock.now();
  const sleep = async (ms: number) => clock.sleep(ms, { background: true });
  return createWebhookHandler({ verify: createWebhookVerifier({ ...options, now }), now, sleep, log, onHint });
}
