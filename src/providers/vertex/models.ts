/**
 * Names of models: as users write them, in lanes, and in calls. Pure.
 *
 * @module
 */
import { describe, GembatchError } from "../../core/errors.ts";

/**
 * Whose call a model takes: `google` that of generateContent or embedContent (tuned models as well), `anthropic` that of Claude, `open` that of OpenAI (`…-maas`). The rows
 * of the last two are theirs.
 */
export type Family = "google" | "anthropic" | "open";

const id = /^[\w@-][\w.@-]*$/;

/**
 * The short form: `gemini-2.5-flash` for a model of Google in any form (`models/…`, `google/…`, `publishers/google/models/…`, with a project and location before it); other
 * publishers keep theirs (`publishers/anthropic/models/…`, also from `anthropic/…`); tuned models stay as they are (`projects/…/locations/…/models/…` or `endpoints/…`). Throws
 * `invalid_argument` for anything else.
 */
export function normalizeModel(model: string): string {
  const text = typeof model === "string" ? model.trim() : "";
  const parts = text.split("/");
  const sound = text !== "" && parts.every((part) => id.test(part) && !part.includes(".."));
  const tuned = parts[0] === "projects" && parts[2] === "locations" && parts.length === 6 && /^(?:models|endpoints)$/.test(parts[4] ?? "");
  if (sound && tuned) return text;
  const short = sound ? withoutProject(parts) : undefined;
  if (short !== undefined) return short;
  if (text === "")
    throw new GembatchError("invalid_argument", `A model must be given by its name, got ${describe(model)}.`, {
      hint: 'For example "gemini-2.5-flash".',
    });
  throw new GembatchError("invalid_argument", `${describe(model)} is not the name of a model on Vertex AI.`, {
    hint: 'Write "gemini-2.5-flash", "publishers/anthropic/models/…", or the whole name of a tuned model: "projects/…/locations/…/models/…".',
  });
}

function withoutProject(parts: readonly string[]): string | undefined {
  const atProject = parts[0] === "projects";
  const rest = atProject ? parts.slice(parts[2] === "locations" ? 4 : 2) : parts;
  const [first, second, third, fourth] = rest;
  if (first === "publishers" && third === "models" && rest.length === 4) return ofPublisher(second ?? "", fourth ?? "");
  if (atProject) return undefined;
  if (rest.length === 1) return first;
  if (rest.length !== 2 || first === "publishers" || first === "projects" || first === "tunedModels") return undefined;
  return first === "models" ? second : ofPublisher(first ?? "", second ?? "");
}

function ofPublisher(publisher: string, model: string): string {
  return publisher === "google" ? model : `publishers/${publisher}/models/${model}`;
}

/** The model as the API calls it: `publishers/google/models/gemini-2.5-flash`. */
export function modelPath(model: string): string {
  return model.includes("/") ? model : `publishers/google/models/${model}`;
}

export function familyOf(model: string): Family {
  if (model.startsWith("publishers/anthropic/")) return "anthropic";
  return model.startsWith("publishers/") || model.endsWith("-maas") ? "open" : "google";
}
