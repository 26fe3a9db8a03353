/**
 * Webhooks: a POST when a job ends, signed as the service signs it.
 *
 * The emulator's own webhook is signed with a secret, HMAC-SHA256 by Standard Webhooks. Webhooks of a job (`webhookConfig.uris`) are signed with a key of
 * `/.well-known/jwks.json`: as a JWT with RS256, as documented, or with Ed25519 (`v1a,…`), as users received them (googleapis/python-genai#2927).
 *
 * @module
 */
import { createHmac, generateKeyPair, sign, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import type { FaultBox } from "./faults.ts";
import { idOf } from "./chance.ts";
import type { Job, JobState } from "./jobs.ts";
import type { LedgerBook, LedgerWebhook } from "./ledger.ts";
import type { EmulatorWebhooks } from "./options.ts";
import { isObject, type JsonObject } from "./wire.ts";

const patienceMs = 5_000;

export interface WebhookSender {
  /** The public keys, as `/.well-known/jwks.json` shows them. */
  jwks(): Promise<JsonObject>;
  /** Sends what this end calls for, in the background. Never throws. */
  jobEnded(job: Job, state: JobState): void;
  /** Resolves when none is on its way. */
  idle(): Promise<void>;
  /** Gives up those that are. */
  close(): Promise<void>;
}

export interface WebhookSenderOptions {
  settings: EmulatorWebhooks | undefined;
  book: LedgerBook;
  faults: FaultBox;
  now: () => number;
  log: (line: string) => void;
}

const events: Partial<Record<JobState, string>> = {
  SUCCEEDED: "batch.succeeded",
  FAILED: "batch.failed",
  CANCELLED: "batch.cancelled",
  EXPIRED: "batch.expired",
};

/** Throws a `TypeError` for a webhook that is not on this machine, or has no secret to be signed with. */
export function webhookSender({ settings = {}, book, faults, now, log }: WebhookSenderOptions): WebhookSender {
  const { uri, secret, jobSignature = "jwt" } = settings;
  if (uri !== undefined && !isLoopback(uri)) throw new TypeError("webhooks.uri must be an http or https URL of this machine.");
  if (uri !== undefined && !/^whsec_[\w+/=-]+$/.test(secret ?? ""))
    throw new TypeError('webhooks.secret must be "whsec_" and a key in base64.');
  const keys = lazily(makeKeys);
  const stop = new AbortController();
  const underWay = new Set<Promise<void>>();
  let ordinal = 0;

  const headersFor = async (id: string, body: string, target: string | undefined): Promise<Record<string, string>> => {
    const seconds = Math.floor(now() / 1_000);
    const text = `${id}.${seconds}.${body}`;
    const signature =
      target === undefined
        ? `v1,${createHmac("sha256", Buffer.from((secret ?? "").slice("whsec_".length), "base64"))
            .update(text)
            .digest("base64")}`
        : jobSignature === "ed25519"
          ? `v1a,${sign(null, Buffer.from(text), (await keys()).ed25519.privateKey).toString("base64")}`
          : tokenFor({ iss: "gemini-emulator", aud: target, iat: seconds, exp: seconds + 300, jti: id }, (await keys()).rsa.privateKey);
    return { "content-type": "application/json", "webhook-id": id, "webhook-timestamp": String(seconds), "webhook-signature": signature };
  };

  const post = async (entry: LedgerWebhook, body: string, target: string | undefined): Promise<void> => {
    try {
      const headers = await headersFor(entry.id, body, target);
      const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(patienceMs)]);
      const response = await fetch(entry.uri, { method: "POST", headers, body, redirect: "error", signal });
      await response.body?.cancel();
      entry.status = response.status;
    } catch {
      entry.status = 0;
    }
    log(`webhook ${entry.type} ${entry.job} ${entry.status === 0 ? "not received" : entry.status}`);
  };

  const send = (job: Job, state: JobState, type: string, address: string, target: string | undefined) => {
    if (!isLoopback(address)) return log(`webhook ${type} ${job.name} not sent: the emulator calls this machine only`);
    if (faults.hit("webhookLost", job.displayName)) return;
    ordinal += 1;
    const id = `msg_${idOf(`${job.id} ${type} ${ordinal}`, 24)}`;
    const body = JSON.stringify(eventOf(job, state, type, now(), target === undefined ? undefined : job.webhook.userMetadata));
    for (let copies = faults.hit("duplicateWebhooks", job.displayName) ? 2 : 1; copies > 0; copies -= 1) {
      const entry: LedgerWebhook = { uri: address, id, type, job: job.name, status: undefined };
      book.webhooks.push(entry);
      const done = post(entry, body, target).finally(() => underWay.delete(done));
      underWay.add(done);
    }
  };

  return {
    async jwks() {
      const { rsa, ed25519 } = await keys();
      const shown = (key: KeyObject, rest: JsonObject): JsonObject => ({ ...key.export({ format: "jwk" }), use: "sig", ...rest });
      return {
        keys: [shown(rsa.publicKey, { kid: rsaKeyId, alg: "RS256" }), shown(ed25519.publicKey, { kid: "emulator-ed25519", alg: "EdDSA" })],
      };
    },
    jobEnded(job, state) {
      const type = events[state];
      if (type === undefined || job.vertex !== undefined || job.deleted || stop.signal.aborted) return;
      if (uri !== undefined) send(job, state, type, uri, undefined);
      for (const address of job.webhook.uris) send(job, state, type, address, address);
    },
    async idle() {
      while (underWay.size > 0) await Promise.all(underWay);
    },
    async close() {
      stop.abort();
      await Promise.all(underWay);
    },
  };
}

const rsaKeyId = "emulator-rsa";

async function makeKeys() {
  const make = promisify(generateKeyPair);
  return { rsa: await make("rsa", { modulusLength: 2_048 }), ed25519: await make("ed25519") };
}

function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}

function tokenFor(claims: JsonObject, key: KeyObject): string {
  const part = (value: JsonObject) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "RS256", typ: "JWT", kid: rsaKeyId })}.${part(claims)}`;
  return `${text}.${sign("sha256", Buffer.from(text), key).toString("base64url")}`;
}

function eventOf(job: Job, state: JobState, type: string, now: number, userMetadata: JsonObject | undefined): JsonObject {
  return {
    type,
    version: "v1",
    timestamp: new Date(now).toISOString(),
    data: {
      // Not the name that GET takes: the documents show this form.
      id: `batch_${job.id}`,
      ...(state === "SUCCEEDED" && job.kind === "file" ? { output_file_uri: `files/batch-${job.id}` } : {}),
      ...(state === "FAILED" && job.plan.error ? { error_code: String(job.plan.error.code), error_message: job.plan.error.message } : {}),
      ...(userMetadata === undefined ? {} : { user_metadata: userMetadata }),
    },
  };
}

/** `webhookConfig` of a create call. */
export function webhookOf(batch: JsonObject): Job["webhook"] {
  const config = isObject(batch.webhookConfig) ? batch.webhookConfig : {};
  return {
    uris: Array.isArray(config.uris) ? config.uris.filter((uri) => typeof uri === "string") : [],
    userMetadata: isObject(config.userMetadata) ? config.userMetadata : undefined,
  };
}

function isLoopback(uri: string): boolean {
  const url = URL.parse(uri);
  return url !== null && /^https?:$/.test(url.protocol) && /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
}
