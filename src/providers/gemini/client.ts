/**
 * Raw calls to the Gemini Developer API: key, timeout, JSON, errors.
 *
 * Batch operations are read here and not through the SDK, because its converters drop `error`, `done`, `batchStats` and
 * `finishMessage`, and because its download ends the process or never settles when the connection breaks (gemini-batch.md 1.9).
 *
 * @module
 */
import { ProviderError } from "../../core/provider.ts";
import { readAnswer, roundTrip, withTimeout } from "../shared/http.ts";
import { type Call, errorFromAnswer, errorFromThrown, errorsOf } from "./errors.ts";
import type { Settings } from "./options.ts";

export interface Client {
  readonly settings: Settings;
  /** `path` below base URL and version, e.g. `batches/abc`; each part of a name must be safe already. */
  url(path: string): string;
  /** The headers of a JSON call. Throws `denied` without a key. */
  headers(): Record<string, string>;
  /** One call that answers JSON. Throws ProviderError. */
  json(call: Call, method: "GET" | "POST" | "DELETE", path: string, signal: AbortSignal): Promise<unknown>;
  /** A GET whose body is read by the caller. Follows redirects without taking the key to another host. */
  open(call: Call, path: string, signal: AbortSignal): Promise<Response>;
}

export function createClient(settings: Settings): Client {
  const url = (path: string): string => `${settings.baseUrl}/${settings.apiVersion}/${path}`;
  const headers = (): Record<string, string> => ({
    ...settings.headers,
    "content-type": "application/json",
    "x-goog-api-key": settings.requireApiKey(),
  });
  return {
    settings,
    url,
    headers,
    async json(call, method, path, signal) {
      const init = { method, headers: headers(), redirect: "manual" as const, ...(method === "GET" ? {} : { body: "{}" }) };
      const answer = await roundTrip(errorsOf(call), settings.fetch, url(path), {
        ...init,
        signal: withTimeout(signal, settings.timeoutMs.call),
      });
      return answer.json;
    },
    async open(call, path, signal) {
      const first = new URL(url(path));
      let next = first;
      for (let hop = 0; hop < 5; hop += 1) {
        const sent: Record<string, string> = { ...settings.headers };
        if (next.origin === first.origin) sent["x-goog-api-key"] = settings.requireApiKey();
        // No compression: the length can be checked, and a cut gzip stream would be taken for a whole one.
        sent["accept-encoding"] = "identity";
        let response: Response;
        try {
          response = await settings.fetch(next.href, { headers: sent, redirect: "manual", signal });
        } catch (thrown) {
          throw errorFromThrown(call, thrown);
        }
        if (response.ok) return response;
        const location = response.headers.get("location");
        const target = location && response.status >= 300 && response.status < 400 ? URL.parse(location, next.href) : null;
        if (!target) throw errorFromAnswer(call, await readAnswer(errorsOf(call), response));
        await response.body?.cancel();
        next = target;
      }
      throw new ProviderError("unavailable", "Could not download the results of a batch job: too many redirects.");
    },
  };
}

/** The model as a path: `models/gemini-2.5-flash`; `tunedModels/…` has its collection already. */
export function modelPath(model: string): string {
  return model.includes("/") ? model : `models/${model}`;
}

/**
 * The resource name as a path; a bare id is one of the collection. Its parts may not climb, end the path or add a query. Such a name is
 * refused and not `missing`: nobody said that it does not exist.
 */
export function resourcePath(name: string, collection: "batches" | "files"): string {
  if (!/^(?:[\w~-][\w.~-]*\/)*[\w~-][\w.~-]*$/.test(name))
    throw new ProviderError("refused", `Gemini has no ${collection} of such a name.`);
  return name.includes("/") ? name : `${collection}/${name}`;
}
