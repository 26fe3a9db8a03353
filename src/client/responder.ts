import { AsyncLocalStorage } from "node:async_hooks";
import type { Models } from "@google/genai";
import type { Providers } from "../chain/providers.ts";
import type { Lane, Provider } from "../core/provider.ts";
import type { ClaimedRun, RequestRecord, Store } from "../core/store.ts";
import { createEmbeddings } from "./connect.ts";

/**
 * Turns stored REST responses of submitted prompts into response objects of the official SDK, by letting the SDK of the provider that answered
 * "fetch" them. Those of other publishers' models are given as they are: parsed JSON.
 */
export function createResponder(providers: Providers, store: Store): (text: string, run: ClaimedRun) => Promise<unknown> {
  const stored = new AsyncLocalStorage<string>();
  const fetch = async () => new Response(stored.getStore(), { headers: { "content-type": "application/json" } });
  const modelsOf = modelsByProvider((provider) => provider.createModels(fetch));
  const embeddings = createEmbeddings(fetch);
  return async (text, run) => {
    const body = JSON.parse(text) as Record<string, unknown>;
    if (body["embedding"] !== undefined) {
      return stored.run(JSON.stringify({ embeddings: [body["embedding"]] }), () =>
        embeddings.embedContent({ model: "stored", contents: "-" }),
      );
    }
    const isGoogle = "candidates" in body || "promptFeedback" in body || "usageMetadata" in body;
    // Only what may be another publisher's answer, or another provider's, is worth a look into the store.
    const lane = isGoogle && providers.byName.size === 1 ? undefined : await laneOf(store, run);
    if (!isGoogle && lane?.method === "rawPredict") return body;
    // A provider that is not configured any more has left its answer, and the default can read it.
    const models = modelsOf((lane && providers.byName.get(lane.provider)) ?? providers.default);
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

/** The lane of the run's first request. */
async function laneOf(store: Store, run: ClaimedRun): Promise<Lane | undefined> {
  let first: RequestRecord | undefined;
  for (let cursor: string | undefined; ;) {
    const page = await store.listRequests({ run: run.id, limit: 1_000, ...(cursor === undefined ? {} : { cursor }) });
    first = page.items.at(-1) ?? first;
    cursor = page.nextCursor;
    if (cursor === undefined) break;
  }
  return first?.lane;
}
