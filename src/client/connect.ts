/**
 * From options to parts: the one place that knows which stores and providers exist.
 *
 * @module
 */
import { describe, GembatchError } from "../core/errors.ts";
import type { Provider } from "../core/provider.ts";
import type { Store } from "../core/store.ts";
import { gemini } from "../providers/gemini/provider.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";

export const defaultStoreUrl = "sqlite:.gembatch/gembatch.db";

/** A store object as it is, or the store behind a URL: `sqlite:PATH`, `sqlite::memory:`. */
export function connectStore(store: string | Store | undefined, env: NodeJS.ProcessEnv): Store {
  if (typeof store === "object") return store;
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
  if (typeof provider === "object") return provider;
  const name = provider ?? env["GEMBATCH_PROVIDER"] ?? "gemini";
  if (name === "gemini") return gemini();
  throw new GembatchError("invalid_option", `Option provider names no provider that gembatch knows: ${describe(name)}.`, {
    hint: 'Known: "gemini".',
  });
}
