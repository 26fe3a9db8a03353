/**
 * Webhooks of the Gemini API, taken as what they are worth: a hint to look at the jobs now. Nothing that they carry is used as data.
 *
 * Three kinds of signature are met (gemini-batch.md 1.10): those of a project's webhooks, HMAC-SHA256 by Standard Webhooks; those of a job's own (`webhookConfig`), a JWT
 * with RS256 by the documents, and Ed25519 (`v1a,…`) by what was received in 2026-08 (googleapis/python-genai#2927).
 *
 * @module
 */
import { createHash } from "node:crypto";
import { GembatchError } from "../../core/errors.ts";
import { type Logger, silentLogger } from "../../core/log.ts";
import { fixedKeys, type JsonWebKeySet, type KeySource, remoteKeys, toKeys } from "./webhook-keys.ts";
import { type Delivery, isSignedWithKey, isSignedWithSecret, looksLikeToken, signaturesOf, verifyToken } from "./webhook-signatures.ts";

export interface WebhookVerifierOptions {
  /** The signing secret of the project's webhook, `whsec_…`; two while it is being changed. Without one, only webhooks of jobs are accepted. */
  secret?: string | readonly string[];
  /**
   * The public keys of webhooks of jobs: an address (https, or http to this machine), or a JWK set. `false`: only those of the project are accepted. Default:
   * `https://generativelanguage.googleapis.com/.well-known/jwks.json`, fetched when needed, kept for an hour, asked again at most once a minute.
   */
  jwks?: URL | string | JsonWebKeySet | false;
  /** Who the token of a job's webhook must be for (`aud`). Default: not looked at. */
  audience?: string | readonly string[];
  /** Who must have issued it (`iss`). Default: not looked at. */
  issuer?: string | readonly string[];
  /** Milliseconds since 1970. */
  now: () => number;
  /** How old, or how far ahead, a webhook may be. Default 5 minutes. */
  toleranceMs?: number;
  /** Fetches the keys. Default: the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/**
 * Why a webhook is not accepted. `malformed`: headers are missing, or the body could not be read. `replayed`: it was accepted before.
 * `keys_unavailable`: its signature cannot be checked, because the public keys cannot be had.
 */
export type WebhookRefusal = "malformed" | "too_large" | "stale" | "signature" | "replayed" | "keys_unavailable";

/** `type` is what the body calls itself, such as `batch.succeeded`, and `"unknown"` if it says nothing of the kind. `id`: the same for every delivery of one event. */
export type WebhookVerdict = { accepted: true; id: string; type: string } | { accepted: false; reason: WebhookRefusal };

export type WebhookVerifier = (request: Request) => Promise<WebhookVerdict>;

const googleKeys = "https://generativelanguage.googleapis.com/.well-known/jwks.json";
const maxBody = 1_000_000;
const maxRemembered = 10_000;

/**
 * A function that tells genuine webhooks from forged, changed, old and repeated ones. Reads the body of the request. What was accepted is remembered in memory, so
 * a repetition that reaches another process is accepted there once more. Throws `invalid_option`.
 */
export function createWebhookVerifier(options: WebhookVerifierOptions): WebhookVerifier {
  const { now } = options;
  const secrets = readSecrets(options.secret);
  const keys = readKeys(options);
  const toleranceMs = options.toleranceMs ?? 5 * 60_000;
  if (!(typeof toleranceMs === "number" && toleranceMs > 0)) refuse("toleranceMs", "a positive number of milliseconds");
  if (secrets.length === 0 && keys === undefined) refuse("secret", "given where jwks is false, or no webhook could ever be accepted");
  const expectation = { toleranceMs, ...given("audience", options.audience), ...given("issuer", options.issuer) };
  const seen = new Memory();

  /** `until`: when it will be refused for its age, and need not be remembered any more. */
  const accept = (key: string, until: number, id: string, body: Uint8Array): WebhookVerdict =>
    seen.add(key, until, now()) ? { accepted: true, id, type: typeOf(body) } : { accepted: false, reason: "replayed" };

  const verifyStandard = async (header: string, delivery: Delivery): Promise<WebhookVerdict> => {
    const at = Number(delivery.timestamp) * 1_000;
    if (Math.abs(now() - at) > toleranceMs) return { accepted: false, reason: "stale" };
    const good =
      isSignedWithSecret(delivery, signaturesOf(header, "v1"), secrets) ||
      (await verifyWithKeys(keys, signaturesOf(header, "v1a"), delivery));
    if (good === "keys_unavailable") return { accepted: false, reason: good };
    return good ? accept(`id ${delivery.id}`, at + toleranceMs, delivery.id, delivery.body) : { accepted: false, reason: "signature" };
  };

  const verifyByToken = async (token: string, { id, timestamp, body }: Delivery): Promise<WebhookVerdict> => {
    if (timestamp !== "" && Math.abs(now() - Number(timestamp) * 1_000) > toleranceMs) return { accepted: false, reason: "stale" };
    let set = await keys?.current();
    if (set === undefined) return { accepted: false, reason: keys === undefined ? "signature" : "keys_unavailable" };
    let verdict = await verifyToken(token, body, set, { now: now(), ...expectation });
    if (!verdict.ok && verdict.why === "unknown_key" && (set = await keys?.newer(set)) !== undefined) {
      verdict = await verifyToken(token, body, set, { now: now(), ...expectation });
    }
    if (!verdict.ok) return { accepted: false, reason: verdict.why === "stale" ? "stale" : "signature" };
    // The headers beside it are not signed: whoever sends it again may give it another id.
    const digest = createHash("sha256").update(token).digest("base64url");
    return accept(`token ${digest}`, verdict.until, id || (verdict.id ?? digest), body);
  };

  return async (request) => {
    const header = request.headers.get("webhook-signature") ?? "";
    const id = request.headers.get("webhook-id") ?? "";
    const timestamp = request.headers.get("webhook-timestamp") ?? "";
    const isToken = looksLikeToken(header);
    const whole = isToken ? /^\d{0,12}$/.test(timestamp) : id !== "" && /^\d{1,12}$/.test(timestamp);
    if (header === "" || id.length > 256 || !whole) return { accepted: false, reason: "malformed" };
    const body = await readBody(request);
    if (typeof body === "string") return { accepted: false, reason: body };
    const delivery = { id, timestamp, body };
    return isToken ? verifyByToken(header, delivery) : verifyStandard(header, delivery);
  };
}

async function verifyWithKeys(
  source: KeySource | undefined,
  signatures: readonly Buffer[],
  delivery: Delivery,
): Promise<boolean | "keys_unavailable"> {
  if (source === undefined || signatures.length === 0) return false;
  const keys = await source.current();
  if (keys === undefined) return "keys_unavailable";
  if (isSignedWithKey(delivery, signatures, keys)) return true;
  const newer = await source.newer(keys);
  return newer !== undefined && isSignedWithKey(delivery, signatures, newer);
}

/** Ids and tokens that were accepted, until their age speaks against them. */
class Memory {
  readonly #until = new Map<string, number>();

  /** Whether this was new. */
  add(key: string, until: number, now: number): boolean {
    if ((this.#until.get(key) ?? -Infinity) >= now) return false;
    if (this.#until.size >= maxRemembered) for (const [old, end] of this.#until) if (end < now) this.#until.delete(old);
    // The oldest makes room: only genuine ones are in here, and a hint too many does no harm.
    if (this.#until.size >= maxRemembered) this.#until.delete(this.#until.keys().next().value!);
    this.#until.set(key, until);
    return true;
  }
}

async function readBody(request: Request): Promise<Uint8Array | "too_large" | "malformed"> {
  if (Number(request.headers.get("content-length") ?? 0) > maxBody) return "too_large";
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    const stream: AsyncIterable<Uint8Array> | [] = request.body ?? [];
    for await (const chunk of stream) {
      bytes += chunk.byteLength;
      if (bytes > maxBody) return "too_large";
      chunks.push(chunk);
    }
  } catch {
    return "malformed";
  }
  return Buffer.concat(chunks);
}

function typeOf(body: Uint8Array): string {
  try {
    const { type } = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString()) as { type?: unknown };
    return typeof type === "string" && /^[\w.]{1,64}$/.test(type) ? type : "unknown";
  } catch {
    return "unknown";
  }
}

export interface WebhookHandlerOptions {
  verify: WebhookVerifier;
  /** Called for a genuine webhook, at most once a second. What it throws is logged: the jobs are looked at without a hint as well, only later. */
  onHint: () => unknown;
  /** Waits so many milliseconds. With it, webhooks that come within a second of a hint get one more at its end; without it they get none. */
  sleep?: (ms: number) => Promise<unknown>;
  /** Milliseconds since 1970. */
  now: () => number;
  log?: Logger;
}

const hintPauseMs = 1_000;
const statusOf: Readonly<Record<WebhookRefusal, number>> = {
  malformed: 401,
  signature: 401,
  stale: 401,
  too_large: 413,
  // It was received, and need not come again.
  replayed: 200,
  // The service will try again, and then the keys may be there.
  keys_unavailable: 503,
};

/**
 * A `fetch` handler for an address that webhooks are sent to: for `Request` → `Response` servers (Hono, Cloud Functions, `node:http` through an adapter). Answers 200
 * when it was genuine, 405 to anything but POST, 413 above 1 MB, 401 with no reason to whatever else; every answer is empty.
 */
export function createWebhookHandler(options: WebhookHandlerOptions): (request: Request) => Promise<Response> {
  const { verify, onHint, sleep, now, log = silentLogger } = options;
  let hintedAt = -Infinity;
  let waiting = false;

  /** Never rejects. */
  const hint = async (): Promise<void> => {
    hintedAt = now();
    try {
      await onHint();
    } catch (error) {
      const name = error instanceof Error ? error.name : typeof error;
      log.warn("A webhook could not be passed on; the jobs will be looked at in their time.", { error: name });
    }
  };
  const hintSoon = async (): Promise<void> => {
    const passed = Math.abs(now() - hintedAt);
    if (passed >= hintPauseMs) return hint();
    if (sleep === undefined || waiting) return;
    waiting = true;
    // In the background: the service wants its answer.
    void sleep(hintPauseMs - passed)
      .then(hint)
      .finally(() => (waiting = false));
  };

  return async (request) => {
    if (request.method !== "POST") return new Response(null, { status: 405, headers: { allow: "POST" } });
    const verdict = await verify(request);
    if (!verdict.accepted) {
      log.debug("A webhook was not accepted.", { reason: verdict.reason });
      return new Response(null, { status: statusOf[verdict.reason] });
    }
    log.debug("A webhook was accepted.", { type: verdict.type });
    await hintSoon();
    return new Response(null, { status: 200 });
  };
}

/** `whsec_` and the key in base64; the secrets are not shown in errors. */
function readSecrets(secret: WebhookVerifierOptions["secret"]): Buffer[] {
  const texts: readonly unknown[] = secret === undefined ? [] : Array.isArray(secret) ? secret : [secret];
  return texts.map((text) => {
    const base64 = typeof text === "string" ? text.trim().replace(/^whsec_/, "") : "";
    if (!/^[\w+/-]{22,}={0,2}$/.test(base64))
      refuse("secret", 'the text that creating the webhook gave: "whsec_" and at least 16 bytes in base64');
    return Buffer.from(base64, "base64");
  });
}

function readKeys({ jwks = googleKeys, now, fetch }: WebhookVerifierOptions): KeySource | undefined {
  if (jwks === false) return undefined;
  if (typeof jwks === "object" && !(jwks instanceof URL)) return fixedKeys(toKeys(jwks) ?? refuse("jwks", "an address or a JWK set"));
  const url = URL.parse(String(jwks));
  const local = url?.protocol === "http:" && /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  if (!url || !(url.protocol === "https:" || local)) return refuse("jwks", "an https address, or http to localhost");
  return remoteKeys(url, now, fetch ?? ((input, init) => globalThis.fetch(input, init)));
}

function given<K extends "audience" | "issuer">(name: K, value: string | readonly string[] | undefined): { [key in K]?: string[] } {
  if (value === undefined) return {};
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (values.length === 0 || values.some((text) => typeof text !== "string" || text === "")) refuse(name, "a text or a list of texts");
  return { [name]: values } as { [key in K]?: string[] };
}

function refuse(name: string, expected: string): never {
  throw new GembatchError("invalid_option", `Option ${name} of a webhook must be ${expected}.`);
}
