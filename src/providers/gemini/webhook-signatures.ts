/**
 * The three signatures that webhooks of the Gemini API carry. Each function says whether one is good; none trusts what was signed.
 *
 * @module
 */
import { createHash, createHmac, timingSafeEqual, verify } from "node:crypto";
import type { Keys } from "./webhook-keys.ts";

/** What a delivery says of itself, before any of it is believed. */
export interface Delivery {
  id: string;
  timestamp: string;
  body: Uint8Array;
}

/** At most so many signatures of one header are looked at; a service that changes its secret sends two. */
const maxSignatures = 8;

/** The base64 texts behind `v1,` or `v1a,` in a header of space-separated signatures. */
export function signaturesOf(header: string, version: "v1" | "v1a"): Buffer[] {
  return header
    .split(" ")
    .filter((part) => part.startsWith(`${version},`))
    .slice(0, maxSignatures)
    .map((part) => Buffer.from(part.slice(version.length + 1), "base64"));
}

function signedText({ id, timestamp, body }: Delivery): Buffer {
  return Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
}

/** Standard Webhooks, symmetric: HMAC-SHA256 of `id.timestamp.body`. In constant time, over all secrets and signatures. */
export function isSignedWithSecret(delivery: Delivery, signatures: readonly Buffer[], secrets: readonly Buffer[]): boolean {
  const text = signedText(delivery);
  let good = false;
  for (const secret of secrets) {
    const expected = createHmac("sha256", secret).update(text).digest();
    for (const signature of signatures) if (signature.length === expected.length && timingSafeEqual(signature, expected)) good = true;
  }
  return good;
}

/** Standard Webhooks, asymmetric: Ed25519 of the same text. No header says by which key. */
export function isSignedWithKey(delivery: Delivery, signatures: readonly Buffer[], keys: Keys): boolean {
  const text = signedText(delivery);
  return signatures.some((signature) => signature.length === 64 && keys.ed25519.some((key) => verify(null, text, key, signature)));
}

export interface TokenExpectation {
  now: number;
  toleranceMs: number;
  audience?: string | string[];
  issuer?: string | string[];
}

/** `unknown_key`: it names a key that is not in the set. */
export type TokenVerdict = { ok: true; id: string | undefined; until: number } | { ok: false; why: "signature" | "stale" | "unknown_key" };

/** Clocks differ; what is issued by one that is ahead is not from the future. */
const skewSeconds = 60;

export function looksLikeToken(header: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]*$/.test(header);
}

/**
 * A JWT with RS256, and nothing else: neither `none`, nor HS256 with the public key for a secret. Which claims the service sends is not documented: those of time are
 * held to the clock, at least one of `iat` and `exp` must be there, and a digest of the body must be right if there is one. `until`: when it is out of date.
 */
export async function verifyToken(token: string, body: Uint8Array, keys: Keys, expected: TokenExpectation): Promise<TokenVerdict> {
  const { createLocalJWKSet, jwtVerify } = await import("jose");
  const { now, toleranceMs, audience, issuer } = expected;
  let claims;
  try {
    const set = createLocalJWKSet({ keys: keys.set.keys.filter((key) => key.kty === "RSA") });
    const verified = await jwtVerify(token, set, {
      algorithms: ["RS256"],
      currentDate: new Date(now),
      clockTolerance: skewSeconds,
      ...(audience === undefined ? {} : { audience }),
      ...(issuer === undefined ? {} : { issuer }),
    });
    claims = verified.payload;
  } catch (thrown) {
    const { code, claim } = thrown as { code?: unknown; claim?: unknown };
    if (code === "ERR_JWKS_NO_MATCHING_KEY") return { ok: false, why: "unknown_key" };
    return { ok: false, why: code === "ERR_JWT_EXPIRED" || claim === "nbf" ? "stale" : "signature" };
  }
  const { iat, exp, jti } = claims;
  if (iat === undefined && exp === undefined) return { ok: false, why: "stale" };
  if (iat !== undefined && Math.abs(now - iat * 1_000) > toleranceMs) return { ok: false, why: "stale" };
  if (!bodyFits(claims, body)) return { ok: false, why: "signature" };
  // It is good until the first of both, and a little longer.
  const ends = [...(iat === undefined ? [] : [iat * 1_000 + toleranceMs]), ...(exp === undefined ? [] : [(exp + skewSeconds) * 1_000])];
  return { ok: true, id: typeof jti === "string" ? jti : undefined, until: Math.min(...ends) };
}

/** Names under which tokens of other services carry a SHA-256 of the body. */
const digestClaims = ["body_sha256", "request_body_sha256", "payload_sha256", "sha256", "body_hash"];

function bodyFits(claims: Record<string, unknown>, body: Uint8Array): boolean {
  const hash = createHash("sha256").update(body).digest();
  const forms = new Set<unknown>([hash.toString("hex"), hash.toString("base64"), hash.toString("base64url")]);
  return digestClaims.every((name) => claims[name] === undefined || forms.has(claims[name]));
}
