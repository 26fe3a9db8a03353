import { GembatchError } from "../core/errors.ts";

/** There is certainly nothing under this key. */
export function missing(store: string, key: string, cause?: unknown): GembatchError {
  return new GembatchError("payload_missing", `There is no payload ${key} in ${store}.`, {
    hint: "Restore the object from a backup or an older version.",
    details: { key },
    cause,
  });
}

/** What the service said is part of the message: it names buckets and permissions, never a payload. */
export function unavailable(what: string, cause: unknown): GembatchError {
  const said = cause instanceof Error ? `${cause.name}: ${cause.message.slice(0, 300)}` : "";
  return new GembatchError("payload_unavailable", `${what}${said === "" ? "." : ` (${said}).`}`, {
    retryable: true,
    hint: "Nothing is lost: it is tried again.",
    cause,
  });
}

/** Runs `call`; what it throws becomes the error of the port. */
export async function asPayloadError<T>(what: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw GembatchError.is(thrown) ? thrown : unavailable(what, thrown);
  }
}
