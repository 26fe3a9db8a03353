import type { Provider } from "gembatch";
import { gemini } from "gembatch/gemini";
import { vertex } from "gembatch/vertex";
import type { RunningEmulator } from "./emulator.ts";

/** The emulator as Gemini, or as Vertex AI with its files in Cloud Storage. Neither key nor address in the environment counts. The tasks do not know which it is. */
export function emulated({ url, apiKey }: Pick<RunningEmulator, "url" | "apiKey">, asVertex: boolean): Provider {
  if (!asVertex) return gemini({ apiKey, baseUrl: url });
  const headers = { "x-goog-api-key": apiKey };
  return vertex({ project: "abc", location: "global", bucket: "gs://abc/batches", baseUrl: url, storageEndpoint: url, headers });
}
