/**
 * Credentials for the Vertex AI API: those of `authClient`, else application default credentials.
 *
 * @module
 */
import { GembatchError } from "../../core/errors.ts";
import { ProviderError } from "../../core/provider.ts";
import { bounded, scrub } from "../../core/scrub.ts";
import type { Settings, VertexAuthClient } from "./options.ts";
import { loadPackage } from "./packages.ts";

const scope = "https://www.googleapis.com/auth/cloud-platform";
const credentialsHint = "Run gcloud auth application-default login, set GOOGLE_APPLICATION_CREDENTIALS, or pass vertex({ authClient }).";

/** What goes into the headers of a call, without a call of its own while a token is good. Throws `denied` without credentials, `unavailable` if a token could not be had now. */
export type AuthHeaders = (url: string) => Promise<Record<string, string>>;

export function createAuth(
  { authClient }: Pick<Settings, "authClient">,
  findDefault: () => Promise<VertexAuthClient> = defaultClient,
): AuthHeaders {
  if (authClient === "none") return async () => ({});
  let client: Promise<VertexAuthClient> | undefined;
  return async (url) => {
    client ??= authClient ? Promise.resolve(authClient) : findDefault();
    try {
      return Object.fromEntries(new Headers(await (await client).getRequestHeaders(url)));
    } catch (thrown) {
      // The next call may find what this one did not.
      client = undefined;
      throw authError(thrown);
    }
  };
}

async function defaultClient(): Promise<VertexAuthClient> {
  const { GoogleAuth } = await loadPackage("google-auth-library", "application default credentials", () => import("google-auth-library"));
  return new GoogleAuth({ scopes: [scope] });
}

/** Nothing was sent to Vertex AI in any case. */
function authError(thrown: unknown): ProviderError | GembatchError {
  if (GembatchError.is(thrown) || ProviderError.is(thrown)) return thrown;
  const { status, response } = (thrown ?? {}) as { status?: unknown; response?: { status?: unknown } };
  const code = Number(response?.status ?? status);
  const message = thrown instanceof Error ? scrub(thrown.message) : "it failed";
  const refused = (code >= 400 && code < 500 && code !== 429 && code !== 408) || isLacking(message);
  return new ProviderError(
    refused ? "denied" : "unavailable",
    bounded(`Could not get credentials of Google Cloud: ${message} ${refused ? credentialsHint : ""}`.trim(), 500),
    {
      cause: thrown,
    },
  );
}

/** What google-auth-library says when there are no credentials, or they are no longer good. */
export function isLacking(message: string): boolean {
  return /could not load the default credentials|could not refresh access token|invalid_grant|invalid_rapt|no refresh token|does not exist, or it is not a file/i.test(
    message,
  );
}
