/**
 * The official SDK, opened the way that gembatch needs it.
 *
 * @module
 */
import { GoogleGenAI, type Models } from "@google/genai";
import { describe, GembatchError } from "../../core/errors.ts";
import { shortenPromptTransport } from "../shared/prompt-transport.ts";
import { withoutEnv } from "../shared/sdk-env.ts";
import type { Settings } from "./options.ts";

/**
 * An SDK client on this transport. Everything that the SDK would take from the environment is given, so that variables meant
 * for Vertex AI or another version cannot change it. No `retryOptions`: without them it sends each request once.
 */
export function openSdk(settings: Settings, fetch: typeof globalThis.fetch, apiKey: string): GoogleGenAI {
  return withoutEnv(
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
  const base = `${settings.baseUrl.replace(/\/$/, "")}/${settings.apiVersion}/`;
  return shortenPromptTransport(models, (path) => base + path, fetch);
}

/** Of another publisher, in any form: Vertex AI has them, this API has not. */
const foreignModel = /(?:^|\/)publishers\/(?!google\/)|^(?!(?:google|models|tunedModels|projects|publishers)\/)[\w-]+\/[^/]+$|-maas$/;
const googleModel = /^(?:(?:projects\/[^/]+\/(?:locations\/[^/]+\/)?)?publishers\/google\/models\/|google\/|models\/)?([\w.@-]+)$/;

/**
 * `gemini-2.5-flash` from any form that users write: `models/…`, `google/…`, `publishers/google/models/…`,
 * `projects/…/publishers/google/models/…`. `tunedModels/…` stays. Throws `invalid_argument` for anything else, models of other publishers among it.
 */
export function normalizeModel(model: string): string {
  const text = typeof model === "string" ? model.trim() : "";
  if (/^tunedModels\/[\w.-]+$/.test(text) && !text.includes("..")) return text;
  if (foreignModel.test(text)) {
    throw new GembatchError("invalid_argument", `${describe(model)} is a model of another publisher, which the Gemini API does not have.`, {
      hint: 'Such models are with Vertex AI: configure vertex(), and name it for this prompt or its chain ({ provider: "vertex" }) unless it is the first provider.',
    });
  }
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
