/**
 * The public keys that per-job webhooks are signed with: a JWK set, fetched and kept.
 *
 * @module
 */
import { createPublicKey, type JsonWebKey, type KeyObject } from "node:crypto";

/** A JWK set (RFC 7517). */
export interface JsonWebKeySet {
  keys: readonly JsonWebKey[];
}

/** A set that was read once, and the Ed25519 keys in it, ready for use. */
export interface Keys {
  readonly set: JsonWebKeySet;
  readonly ed25519: readonly KeyObject[];
}

export interface KeySource {
  /** The keys as known, fetched if need be; `undefined` if they cannot be had. */
  current(): Promise<Keys | undefined>;
  /** Keys fetched after these, for a signature that fits none of them; `undefined` if there are none, or it is too soon to ask again. */
  newer(than: Keys): Promise<Keys | undefined>;
}

/** A set is asked for again after an hour, so that a key that was withdrawn is not trusted for long… */
const freshMs = 3_600_000;
/** …but is used for a day if it cannot be had. */
const usableMs = 24 * 3_600_000;
/** At most so often, whatever strangers send. */
const pauseMs = 60_000;
const patienceMs = 10_000;
const maxBytes = 256 * 1024;
const maxKeys = 32;

/** The value as keys, or `undefined` if it is no JWK set. Members that cannot be read are left out, as RFC 7517 5 says. */
export function toKeys(value: unknown): Keys | undefined {
  const list = (value as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(list)) return undefined;
  const keys = list.filter((key): key is JsonWebKey => typeof key === "object" && key !== null).slice(0, maxKeys);
  return { set: { keys }, ed25519: keys.filter((key) => key.kty === "OKP" && key.crv === "Ed25519").flatMap(toPublicKey) };
}

function toPublicKey(key: JsonWebKey): KeyObject[] {
  try {
    return [createPublicKey({ key, format: "jwk" })];
  } catch {
    return [];
  }
}

/** Keys that do not change. */
export function fixedKeys(keys: Keys | undefined): KeySource {
  return { current: async () => keys, newer: async () => undefined };
}

/** Keys behind an address, fetched when they are needed first. */
export function remoteKeys(url: URL, now: () => number, fetch: typeof globalThis.fetch): KeySource {
  let known: { keys: Keys; at: number } | undefined;
  let asking: { at: number; done: Promise<void> } | undefined;

  const load = async (): Promise<void> => {
    const at = now();
    if (!asking || Math.abs(at - asking.at) >= pauseMs) {
      const done = fetchKeys(url, fetch).then((keys) => void (known = keys ? { keys, at } : known));
      asking = { at, done };
    }
    await asking.done;
  };
  const usable = (): Keys | undefined => (known && Math.abs(now() - known.at) < usableMs ? known.keys : undefined);

  return {
    async current() {
      if (!known || Math.abs(now() - known.at) >= freshMs) await load();
      return usable();
    },
    async newer(than) {
      if (usable() === than) await load();
      const keys = usable();
      return keys === than ? undefined : keys;
    },
  };
}

/** Never rejects. */
async function fetchKeys(url: URL, fetch: typeof globalThis.fetch): Promise<Keys | undefined> {
  try {
    const response = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(patienceMs) });
    if (!response.ok || Number(response.headers.get("content-length") ?? 0) > maxBytes) {
      await response.body?.cancel();
      return undefined;
    }
    const text = await response.text();
    return text.length > maxBytes ? undefined : toKeys(JSON.parse(text));
  } catch {
    return undefined;
  }
}
