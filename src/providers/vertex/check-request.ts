/**
 * What of a request its jobs can never take, before it is queued. Pure.
 *
 * @module
 */
import { GembatchError } from "../../core/errors.ts";
import type { Lane } from "../../core/provider.ts";
import { atTier, isDirect } from "../../core/tiers.ts";
import type { JsonObject } from "../shared/json.ts";
import { type Finding, lintRow, withoutEmpty } from "./lint.ts";
import { type Family, familyOf } from "./models.ts";
import type { Settings } from "./options.ts";

/** The shape of lanes whose rows go through tables: a JSON column takes any form. */
export const tableShape = "json";
/** The shape of flex calls that no job would take. */
const refusedShape = "refused";

/**
 * Throws `request_refused` for what no job on Vertex AI takes (cached content), and, without a dataset, for what the importer of JSON Lines cannot take. Returns the shape of
 * its lane: `json` for rows that need a table, a digest for those that only fit with their like, none for all others. Direct calls take everything; flex ones have their shape, because those that are shed go into jobs.
 */
export function checkRequest(settings: Settings, call: Lane, body: Readonly<JsonObject>): { shape?: string } {
  if (call.tier === "flex") return shapeOfFlex(settings, call, body);
  if (isDirect(call)) return {};
  const family = familyOf(call.model);
  if (family !== "google") {
    checkForeign(family, call.model, body);
    return {};
  }
  if (call.method === "embedContent") return checkEmbedding(settings, call.model);
  for (const name of ["cachedContent", "cached_content"]) {
    if (body[name] !== undefined && body[name] !== null) {
      throw refusal(
        call.model,
        `its ${name} cannot be used in batch jobs on Vertex AI`,
        "Leave it out, or ask at the flex or standard tier.",
      );
    }
  }
  // A column of JSON has no types: it takes what this looks for.
  if (!settings.bucket) return {};
  const { finding, shape } = lintRow(withoutEmpty(body));
  if (settings.dataset) return finding || shape !== undefined ? { shape: tableShape } : {};
  if (finding) throw cannotImport(call.model, finding);
  return shape === undefined ? {} : { shape };
}

/** A flex call takes everything; one that is shed goes into a job. There, rows that none takes keep to themselves. */
function shapeOfFlex(settings: Settings, call: Lane, body: Readonly<JsonObject>): { shape?: string } {
  try {
    return checkRequest(settings, atTier(call, "batch"), body);
  } catch (thrown) {
    if (GembatchError.is(thrown)) return { shape: refusedShape };
    throw thrown;
  }
}

/** Embeddings have a JSON Lines form and no tables (docs.cloud.google.com, "Get batch embeddings inferences"). */
function checkEmbedding(settings: Settings, model: string): { shape?: string } {
  if (settings.bucket) return {};
  throw refusal(model, "embeddings in batch jobs go through Cloud Storage only", 'Configure a bucket: vertex({ bucket: "gs://…" }).');
}

/** A request of generateContent would fail row by row, after the wait for the job. */
function checkForeign(family: Exclude<Family, "google">, model: string, body: Readonly<JsonObject>): void {
  if (!("contents" in body) && !("content" in body)) return;
  const call = family === "anthropic" ? "Anthropic's Messages API" : "OpenAI's chat completions";
  throw refusal(model, `a model of this publisher takes requests of ${call}, and this one has contents`, "Submit a body of that form.");
}

function cannotImport(model: string, { path, what }: Finding): GembatchError {
  return refusal(
    model,
    `the importer of Vertex AI cannot take ${what}, at ${path || "the request itself"}`,
    "Configure a dataset as well: its tables take any JSON (vertex({ dataset })); or change that place, e.g. give a schema as responseSchema instead of responseJsonSchema.",
    { path },
  );
}

function refusal(model: string, why: string, hint: string, details: Readonly<Record<string, unknown>> = {}): GembatchError {
  return new GembatchError("request_refused", `A request for ${model} cannot be batched: ${why}.`, {
    hint,
    details: { model, ...details },
  });
}
