/**
 * The official SDK, opened the way that gembatch needs it.
 *
 * @module
 */
import { GoogleGenAI, type Models } from "@google/genai";
import { describe, GembatchError } from "../../core/errors.ts";
import type { Settings } from "./options.ts";
import { shortenPromptTransport } from "./prompt-transport.ts";

/**
 * An SDK client on this transport. Everything that the SDK would take from the environment is given, so that variables meant
 * for Vertex AI or another version cannot change it. No `retryOptions`: without them it sends each request once.
 */
export function openSdk(settings: Settings, fetch: typeof globalThis.fetch, apiKey: string): GoogleGenAI {
  return withoutKeyWarning(
    () =>
      new GoogleGenAI({
        apiKey,
        enterprise: false,
        apiVersion: settings.apiVersion,
        httpOptions: { baseUrl: settings.baseUrl, apiVersion: settings.apiVersion, headers: { ...settings.headers }, fetch },
      }),
  );
}

/** The SDK's `models` on a transport of its own. Needs no key until something passes through to the network. */
export function createModels(settings: Settings, fetch: typeof globalThis.fetch): Models {
  const { models } = openSdk(settings, fetch, settings.findApiKey() ?? "no-key");
  return shortenPromptTransport(models, settings, fetch);
}

/**
 * The constructor of the SDK (3.1) writes a warning to the console when both key variables are set, even if it is handed a key. It runs
 * synchronously, so hiding one of them from it is seen by nobody else.
 */
function withoutKeyWarning<T>(construct: () => T): T {
  const { env } = process;
  const hidden = env["GEMINI_API_KEY"] ? env["GOOGLE_API_KEY"] : undefined;
  if (hidden === undefined) return construct();
  delete env["GOOGLE_API_KEY"];
  try {
    return construct();
  } finally {
    env["GOOGLE_API_KEY"] = hidden;
  }
}

const googleModel = /^(?:(?:projects\/[^/]+\/(?:locations\/[^/]+\/)?)?publishers\/google\/models\/|google\/|models\/)?([\w.@-]+)$/;

/**
 * `gemini-2.5-flash` from any form that users write: `models/…`, `google/…`, `publishers/google/models/…`,
 * `projects/…/publishers/google/models/…`. `tunedModels/…` stays. Throws `invalid_argument` for anything else.
 */
export function normalizeModel(model: string): string {
  const text = typeof model === "string" ? model.trim() : "";
  if (/^tunedModels\/[\w.-]+$/.test(text) && !text.includes("..")) return text;
  const name = googleModel.exec(text)?.[1];
  if (name !== undefined && !name.includes("..")) return name;
  if (text === "")
    throw new GembatchError("invalid_argument", `A model must be given by its name, got ${describe(model)}.`, {
      hint: 'For example "gemini-2.5-flash".',
    });
  throw new GembatchError("invalid_argument", `${describe(model)} is not the name of a Gemini model.`, {
    hint: 'Write "gemini-2.5-flash", "models/gemini-2.5-flash" or "publishers/google/models/gemini-2.5-flash".',
  });
}
