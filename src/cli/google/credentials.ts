/**
 * Credentials of whoever runs the command: application default ones.
 *
 * @module
 */
import { GembatchError } from "../../core/errors.ts";
import { scrub } from "../../core/scrub.ts";

/** What goes into the headers of a call. */
export interface Credentials {
  headers(url: string): Promise<Record<string, string>>;
}

/** The part of a client of google-auth-library that is used. */
export interface AuthClient {
  getRequestHeaders(url?: string): Promise<Headers | Record<string, string>>;
}

/** A client, and whether it speaks for a person: calls of people are counted against a project that must be named. */
export interface FoundClient {
  client: AuthClient;
  isPerson: boolean;
}

/** For an address on this machine, which checks none. */
export const noCredentials: Credentials = { headers: async () => ({}) };

/** Application default credentials; `project` is charged with a person's calls. Throws `provider_auth` with what to run when there are none. */
export function defaultCredentials(project: string | undefined, find: () => Promise<FoundClient> = findDefault): Credentials {
  let found: Promise<FoundClient> | undefined;
  return {
    async headers(url) {
      try {
        found ??= find();
        const { client, isPerson } = await found;
        const headers = Object.fromEntries(new Headers(await client.getRequestHeaders(url)));
        return isPerson && project !== undefined ? { "x-goog-user-project": project, ...headers } : headers;
      } catch (thrown) {
        found = undefined;
        throw toError(thrown);
      }
    },
  };
}

async function findDefault(): Promise<FoundClient> {
  const { GoogleAuth, UserRefreshClient } = await import("google-auth-library");
  const client = await new GoogleAuth({ scopes: ["https://www.googleapis.com/auth/cloud-platform"] }).getClient();
  return { client, isPerson: client instanceof UserRefreshClient };
}

function toError(thrown: unknown): GembatchError {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  const noNetwork = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT|fetch failed/.test(message);
  if (noNetwork) {
    return new GembatchError("provider_error", "Google's token service cannot be reached: no connection.", {
      hint: "Check the network. `gembatch init --offline` does what needs none.",
      cause: thrown,
      details: { reason: "UNREACHABLE" },
    });
  }
  return new GembatchError(
    "provider_auth",
    `There are no credentials of Google Cloud that work: ${scrub(message.replace(/ Browse to .*$/, ""))}`,
    {
      hint: "Run: gcloud auth application-default login (or set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account).",
      cause: thrown,
      details: { reason: "NO_CREDENTIALS" },
    },
  );
}
