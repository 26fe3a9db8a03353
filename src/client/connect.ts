/**
 * From options to parts: the one place that knows which stores and providers exist.
 *
 * @module
 */
import type { Models } from "@google/genai";
import { Providers } from "../chain/providers.ts";
import type { Clock, Random } from "../core/clock.ts";
import { checkCodec, type PayloadCodec } from "../core/codec.ts";
import { describe, GembatchError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { checkMethods } from "../core/options.ts";
import { checkPayloads, type PayloadOptions } from "../core/payload-store.ts";
import type { Provider } from "../core/provider.ts";
import type { Store } from "../core/store.ts";
import { gemini } from "../providers/gemini/provider.ts";
import { createWebhookHandler, createWebhookVerifier, type WebhookVerifierOptions } from "../providers/gemini/webhook.ts";
import { vertex } from "../providers/vertex/provider.ts";
import { codecStore } from "../stores/codec-store.ts";
import { offloadingStore } from "../stores/offloading-store.ts";
import { FirestoreStore } from "../stores/firestore/store.ts";
import { parseFirestoreUrl } from "../stores/firestore/url.ts";
import { PostgresStore } from "../stores/postgres/store.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";

/** A provider, the name of one, or a list of these. */
export type ProviderOption = string | Provider | readonly (string | Provider)[];

export const defaultStoreUrl = "sqlite:.gembatch/gembatch.db";

/** A store object as it is, or the store behind a URL: `sqlite:PATH`, `sqlite::memory:`, `postgres://…`, `firestore://…`. What it is given is encoded first, then what is large of it goes elsewhere. */
export function connectStore(
  store: string | Store | undefined,
  env: NodeJS.ProcessEnv,
  { codec, payloads }: { codec?: PayloadCodec; payloads?: PayloadOptions },
  parts: { clock: Clock; random: Random; log: Logger },
): Store {
  return codecStore(offloadingStore(plainStore(store, env), checkPayloads(payloads), parts), checkCodec(codec), parts.log);
}

function plainStore(store: string | Store | undefined, env: NodeJS.ProcessEnv): Store {
  if (typeof store === "object") return checkMethods(store, ["open", "close", "claimRuns"], "store");
  const url = store ?? env["GEMBATCH_STORE"] ?? defaultStoreUrl;
  if (typeof url !== "string") throw new GembatchError("invalid_option", `Option store must be a URL or a store, got ${describe(url)}.`);
  const match = /^sqlite:(?:\/\/)?(.+)$/.exec(url);
  if (match) return new SqliteStore({ path: match[1]! });
  if (/^postgres(?:ql)?:\/\//.test(url)) return new PostgresStore(url);
  if (url.startsWith("firestore:")) return new FirestoreStore(parseFirestoreUrl(url));
  throw new GembatchError(
    "invalid_option",
    `Option store is not a store URL that gembatch knows: ${describe(url.replace(/:\/\/[^@/]*@/, "://…@"))}.`,
    {
      hint: 'Known: "sqlite:PATH" (default "sqlite:.gembatch/gembatch.db"), "sqlite::memory:", "postgres://USER@HOST/DATABASE" and "firestore://PROJECT".',
    },
  );
}

/** The store in words for people: its URL without anything secret, or what kind it is. */
export function describeStore(store: string | Store | undefined, env: NodeJS.ProcessEnv): string {
  if (typeof store === "object") return store.name;
  const url = store ?? env["GEMBATCH_STORE"] ?? defaultStoreUrl;
  return url.startsWith("sqlite:") ? url : url.replace(/:\/\/[^/]*@/, "://").replace(/\?.*$/, "");
}

/** One provider or several, as objects or by name; by default those that the environment names, with everything from there. The first is the default. */
export function connectProviders(given: ProviderOption | undefined, env: NodeJS.ProcessEnv): Providers {
  const list = given ?? (env["GEMBATCH_PROVIDER"] ?? "gemini").split(",").map((name) => name.trim());
  return new Providers((Array.isArray(list) ? list : [list]).map(connectProvider));
}

/** A provider object as it is, or the one of that name. */
function connectProvider(provider: string | Provider): Provider {
  if (typeof provider === "object") return checkMethods(provider, ["createJob", "getJobs", "readResults"], "provider");
  const connect = knownProviders.get(provider);
  if (connect) return connect();
  throw new GembatchError("invalid_option", `Option provider names no provider that gembatch knows: ${describe(provider)}.`, {
    hint: `Known: ${[...knownProviders.keys()].map((name) => `"${name}"`).join(", ")}.`,
  });
}

const knownProviders: ReadonlyMap<string, () => Provider> = new Map([
  ["gemini", () => gemini()],
  ["vertex", () => vertex()],
]);

/** The SDK in the form of the Gemini API on a transport of its own, for embeddings: that of Vertex AI asks for them by other calls. */
export function createEmbeddings(fetch: typeof globalThis.fetch): Models {
  return gemini({ apiKey: "unused" }).createModels(fetch);
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
