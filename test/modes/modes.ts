/**
 * The four ways in which a batch becomes a job, each as a user configures it: by environment variables alone, or by options.
 *
 * @module
 */
import { BigQuery } from "@google-cloud/bigquery";
import { Storage } from "@google-cloud/storage";
import type { Provider } from "../../src/core/provider.ts";
import { gemini } from "../../src/gemini.ts";
import { vertex } from "../../src/vertex.ts";

export const modes = ["gemini-file", "gemini-inline", "vertex-storage", "vertex-bigquery"] as const;
export type Mode = (typeof modes)[number];

const project = "p";
const location = "europe-west4";

/** What a user sets for one mode, or for several providers at once. `url`: of the emulator, which serves all of it. */
export function environmentOf(mode: Mode, url: string): Record<string, string> {
  const toGemini = { GEMBATCH_PROVIDER: "gemini", GOOGLE_GEMINI_BASE_URL: url, GEMINI_API_KEY: "test" };
  const toVertex = {
    ...{ GEMBATCH_PROVIDER: "vertex", GOOGLE_CLOUD_PROJECT: project, GOOGLE_CLOUD_LOCATION: location, GOOGLE_VERTEX_BASE_URL: url },
    ...{ STORAGE_EMULATOR_HOST: url, BIGQUERY_EMULATOR_HOST: url },
  };
  switch (mode) {
    case "gemini-file":
      return toGemini;
    case "gemini-inline":
      return { ...toGemini, GEMBATCH_GEMINI_MODE: "inline" };
    case "vertex-storage":
      return { ...toVertex, GEMBATCH_VERTEX_BUCKET: "gs://bucket/batches" };
    case "vertex-bigquery":
      return { ...toVertex, GEMBATCH_VERTEX_DATASET: "batches" };
  }
}

/**
 * The real adapter of a mode, with options. The clients send everything once: what a call meets is the engine's to repeat, in virtual time, and not theirs in real time. `fetch`: the
 * transport of the Gemini and Vertex AI APIs.
 */
export function openProvider(mode: Mode, url: string, fetch: typeof globalThis.fetch): Provider {
  if (mode === "gemini-file" || mode === "gemini-inline") {
    return gemini({ apiKey: "test", baseUrl: url, mode: mode === "gemini-file" ? "file" : "inline", fetch });
  }
  const once = { retryOptions: { autoRetry: false, maxRetries: 0 } };
  const authClient = { getRequestHeaders: async () => new Headers() };
  return vertex({
    ...{ project, location, baseUrl: url, fetch },
    ...(mode === "vertex-storage"
      ? { bucket: "gs://bucket/batches", storage: new Storage({ projectId: project, apiEndpoint: url, ...once }) }
      : {
          dataset: "batches",
          bigquery: new BigQuery({ projectId: project, apiEndpoint: url, ...once, authClient: authClient as never }),
        }),
  });
}
