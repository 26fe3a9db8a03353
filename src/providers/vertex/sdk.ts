/**
 * The official SDK, opened the way that gembatch needs it.
 *
 * @module
 */
import { GoogleGenAI, type Models } from "@google/genai";
import { shortenPromptTransport } from "../shared/prompt-transport.ts";
import { withoutEnv } from "../shared/sdk-env.ts";
import { createAuth } from "./auth.ts";
import { endpointOf } from "./client.ts";
import type { Settings } from "./options.ts";

/** Calls that travel in a job, and need no credentials. */
const prompt = /:(?:generateContent|streamGenerateContent|embedContent)(?:\?|$)/;

/** An SDK client on this transport. No `retryOptions`: without them it sends each request once. `getHeaders` gives the credentials of a call to a URL. */
export function openSdk(
  settings: Settings,
  fetch: typeof globalThis.fetch,
  project: string,
  getHeaders: (url: string) => Promise<Record<string, string>>,
): GoogleGenAI {
  // All that its own google-auth-library asks of a client (run against a local server).
  const authClient = {
    universeDomain: "googleapis.com",
    getRequestHeaders: async (url?: string | URL) => new Headers(await getHeaders(String(url ?? ""))),
  };
  return withoutEnv(
    () =>
      new GoogleGenAI({
        enterprise: true,
        project,
        location: settings.location,
        apiVersion: settings.apiVersion,
        googleAuthOptions: { authClient: authClient as never },
        httpOptions: { baseUrl: endpointOf(settings), apiVersion: settings.apiVersion, headers: { ...settings.headers }, fetch },
      }),
  );
}

/** The SDK's `models` on a transport of its own. Needs neither project nor credentials until something passes through to the network. */
export function createModels(settings: Settings, fetch: typeof globalThis.fetch): Models {
  const project = settings.findProject() ?? "no-project";
  const auth = createAuth(settings);
  const { models } = openSdk(settings, fetch, project, async (url) => (prompt.test(url) ? {} : auth(url)));
  const base = `${endpointOf(settings)}/${settings.apiVersion}/`;
  const parent = `projects/${project}/locations/${settings.location}/`;
  return shortenPromptTransport(models, (path) => (path.startsWith("projects/") ? base + path : base + parent + path), fetch);
}
