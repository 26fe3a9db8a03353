import { AsyncLocalStorage } from "node:async_hooks";
import type { Models } from "@google/genai";
import type { Providers } from "../chain/providers.ts";
import type { Provider } from "../core/provider.ts";
import type { ClaimedRun, RequestRecord, Store } from "../core/store.ts";
import { createEmbeddings } from "./connect.ts";

/**
 * Turns stored REST responses of submitted prompts into response objects of the official SDK, by letting the SDK of the provider that answered
 * "fetch" them.
 */
export function createResponder(providers: Providers, store: Store): (text: string, run: ClaimedRun) => Promise<unknown> {
  const stored = new AsyncLocalStorage<string>();
  const fetch = async () => new Response(stored.getStore(), { headers: { "content-type": "application/json" } });
  const modelsOf = modelsByProvider((provider) => provider.createModels(fetch));
  const embeddings = createEmbeddings(fetch);
  return async (text, run) => {
    const body = JSON.parse(text) as { embedding?: unknown };
    if (body.embedding !== undefined) {
      return stored.run(JSON.stringify({ embeddings: [body.embedding] }), () =>
        embeddings.embedContent({ model: "stored", contents: "-" }),
      );
    }
    const models = modelsOf(await answeredBy(providers, store, run));
    // `automaticContinuation` would ask for the rest of a cut answer, and get the same one for ever.
    return stored.run(text, () => models.generateContent({ model: "stored", contents: "-", config: { automaticContinuation: false } }));
  };
}

/** The models of each provider, made at first use. */
export function modelsByProvider(create: (provider: Provider) => Models): (provider: Provider) => Models {
  const made = new Map<Provider, Models>();
  return (provider) => {
    let models = made.get(provider);
    if (models === undefined) made.set(provider, (models = create(provider)));
    return models;
  };
}

/** Whose lane the run's first request was in. One that is not configured any more has left its answer, and the default can read it. */
async function answeredBy(providers: Providers, store: Store, run: ClaimedRun): Promise<Provider> {
  if (providers.byName.size === 1) return providers.default;
  let first: RequestRecord | undefined;
  for (let cursor: string | undefined; ;) {
    const page = await store.listRequests({ run: run.id, limit: 1_000, ...(cursor === undefined ? {} : { cursor }) });
    first = page.items.at(-1) ?? first;
    cursor = page.nextCursor;
    if (cursor === undefined) break;
  }
  return (first && providers.byName.get(first.lane.provider)) ?? providers.default;
}
