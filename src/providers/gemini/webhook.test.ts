import { createHash, createHmac, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { SignJWT } from "jose";
import { describe, expect, it } from "vitest";
import { GembatchError } from "../../core/errors.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import { createWebhookHandler, createWebhookVerifier, type WebhookVerifierOptions } from "./webhook.ts";

const start = Date.UTC(2026, 10, 22);
const secret = `whsec_${randomBytes(24).toString("base64")}`;
const otherSecret = `whsec_${randomBytes(24).toString("base64")}`;
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const otherRsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ed = generateKeyPairSync("ed25519");
const otherEd = generateKeyPairSync("ed25519");
const jwk = (key: KeyObject, rest: object) => ({ ...key.export({ format: "jwk" }), ...rest });
const jwks = {
  keys: [
    jwk(rsa.publicKey, { kid: "rsa-1", alg: "RS256", use: "sig" }),
    jwk(ed.publicKey, { kid: "ed-1" }),
    { kty: "OKP", crv: "Ed25519", x: "broken" },
    { kty: "of tomorrow" },
  ],
};
const event = JSON.stringify({ type: "batch.succeeded", version: "v1", data: { id: "batch_1" } });

const hmac = (text: string, key = secret) =>
  createHmac("sha256", Buffer.from(key.slice(6), "base64"))
    .update(text)
    .digest("base64");
interface Given {
  id?: string;
  at?: number;
  body?: string;
  signature?: (text: string) => string;
  headers?: Record<string, string>;
}
/** A delivery by Standard Webhooks; the signature is made of what is given here, the headers override afterwards. */
const standard = ({ id = "msg_1", at = start, body = event, signature = (text) => `v1,${hmac(text)}`, headers = {} }: Given = {}) =>
  new Request("https://me.example/hook", {
    method: "POST",
    body,
    headers: {
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(at / 1000)),
      "webhook-signature": signature(`${id}.${Math.floor(at / 1000)}.${body}`),
      ...headers,
    },
  });
const token = (
  claims: Record<string, unknown> = {},
  { key = rsa.privateKey, alg = "RS256", kid = "rsa-1" }: { key?: KeyObject | Uint8Array; alg?: string; kid?: string } = {},
) => new SignJWT({ iat: start / 1000, exp: start / 1000 + 300, ...claims }).setProtectedHeader({ alg, kid }).sign(key);
const withToken = (text: string, { body = event, headers = {} }: { body?: string; headers?: Record<string, string> } = {}) =>
  new Request("https://me.example/hook", { method: "POST", body, headers: { "webhook-signature": text, ...headers } });

const verifier = (options: Partial<WebhookVerifierOptions> = {}) => createWebhookVerifier({ secret, jwks, now: () => start, ...options });
const reasonOf = async (request: Request | Promise<Request>, options: Partial<WebhookVerifierOptions> = {}) => {
  const verdict = await verifier(options)(await request);
  return verdict.accepted ? "accepted" : verdict.reason;
};

describe("a webhook of the project", () => {
  it("is accepted", async () => {
    expect(await verifier()(standard())).toEqual({ accepted: true, id: "msg_1", type: "batch.succeeded" });
    expect(await verifier({ jwks: false })(standard())).toMatchObject({ accepted: true });
  });

  it("is signed as the reference of Standard Webhooks says", async () => {
    // The example of the specification's libraries.
    const given = {
      secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
      headers: { "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" },
    };
    const request = standard({
      id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
      at: 1_614_265_330_000,
      body: '{"test": 2432232314}',
      headers: given.headers,
    });
    expect(await reasonOf(request, { secret: given.secret, now: () => 1_614_265_330_000 })).toBe("accepted");
  });

  it.each<[string, Given, Partial<WebhookVerifierOptions>, string]>([
    [
      "two signatures, while the secret is changed",
      { signature: (text) => `v1,${hmac(text, otherSecret)} v1,${hmac(text)}` },
      {},
      "accepted",
    ],
    ["two secrets", {}, { secret: [otherSecret, secret] }, "accepted"],
    ["a secret without its prefix", {}, { secret: secret.slice(6) }, "accepted"],
    ["another secret", {}, { secret: otherSecret }, "signature"],
    ["no secret here", {}, { secret: [] }, "signature"],
    ["a version that nobody knows", { signature: (text) => `v2,${hmac(text)}` }, {}, "signature"],
    ["no version", { signature: hmac }, {}, "signature"],
    ["the signature of nothing", { signature: () => "v1," }, {}, "signature"],
    ["half a signature", { signature: (text) => `v1,${hmac(text).slice(0, 20)}` }, {}, "signature"],
    ["another body", { signature: (text) => `v1,${hmac(text.replace("succeeded", "cancelled"))}` }, {}, "signature"],
    ["another id", { headers: { "webhook-id": "msg_2" } }, {}, "signature"],
    ["another stamp", { headers: { "webhook-timestamp": String(start / 1000 + 1) } }, {}, "signature"],
    ["a stamp of 5 minutes ago", { at: start - 300_000 }, {}, "accepted"],
    ["a stamp of more", { at: start - 301_000 }, {}, "stale"],
    ["a stamp of 5 minutes ahead", { at: start + 300_000 }, {}, "accepted"],
    ["a stamp further ahead", { at: start + 301_000 }, {}, "stale"],
    ["less patience", { at: start - 61_000 }, { toleranceMs: 60_000 }, "stale"],
    ["no id", { headers: { "webhook-id": "" } }, {}, "malformed"],
    ["an endless id", { id: "x".repeat(257) }, {}, "malformed"],
    ["no stamp", { headers: { "webhook-timestamp": "" } }, {}, "malformed"],
    ["a stamp that is no number", { headers: { "webhook-timestamp": "1e9" } }, {}, "malformed"],
    ["no signature", { headers: { "webhook-signature": "" } }, {}, "malformed"],
    ["a body of a megabyte", { body: "x".repeat(1_000_000) }, {}, "accepted"],
    ["a larger one", { body: "x".repeat(1_000_001) }, {}, "too_large"],
    ["a body that says how large it is", { headers: { "content-length": "1000001" } }, {}, "too_large"],
  ])("with %s", async (_name, given, options, outcome) => {
    expect(await reasonOf(standard(given), options)).toBe(outcome);
  });

  it("is accepted once", async () => {
    let now = start;
    const verify = verifier({ now: () => now });
    expect((await verify(standard())).accepted).toBe(true);
    expect(await verify(standard())).toEqual({ accepted: false, reason: "replayed" });
    // The service tries again with the same id and another stamp.
    expect(await verify(standard({ at: start + 1_000 }))).toEqual({ accepted: false, reason: "replayed" });
    expect((await verify(standard({ id: "msg_2" }))).accepted).toBe(true);
    now += 300_000;
    expect(await verify(standard())).toEqual({ accepted: false, reason: "replayed" });
    now += 1;
    expect(await verify(standard())).toEqual({ accepted: false, reason: "stale" });
  });

  it("is accepted once, of many that come together", async () => {
    const verify = verifier();
    const verdicts = await Promise.all(Array.from({ length: 20 }, () => verify(standard())));
    expect(verdicts.filter((verdict) => verdict.accepted)).toHaveLength(1);
  });

  it("is remembered in bounded memory: the oldest is forgotten", async () => {
    const verify = verifier({ jwks: false });
    for (let i = 0; i <= 10_000; i += 1) expect((await verify(standard({ id: `m${i}`, body: "" }))).accepted).toBe(true);
    expect((await verify(standard({ id: "m5000", body: "" }))).accepted).toBe(false);
    expect((await verify(standard({ id: "m0", body: "" }))).accepted).toBe(true);
  });

  it.each([
    ["{", "unknown"],
    ["", "unknown"],
    ["null", "unknown"],
    ['{"type":5}', "unknown"],
    ['{"type":"a b"}', "unknown"],
    ['{"type":"batch.expired"}', "batch.expired"],
  ])("with the body %s is of type %s", async (body, type) => {
    expect(await verifier()(standard({ body }))).toMatchObject({ accepted: true, type });
  });
});

describe("a webhook of a job, signed with Ed25519", () => {
  const byKey = (key: KeyObject) => (text: string) => `v1a,${sign(null, Buffer.from(text), key).toString("base64")}`;
  it.each<[string, Given, Partial<WebhookVerifierOptions>, string]>([
    ["a key of the set", { signature: byKey(ed.privateKey) }, { secret: [] }, "accepted"],
    ["another key", { signature: byKey(otherEd.privateKey) }, {}, "signature"],
    ["a key of the set, and keys not wanted", { signature: byKey(ed.privateKey) }, { jwks: false }, "signature"],
    ["another body", { signature: (text) => byKey(ed.privateKey)(`${text} `) }, {}, "signature"],
    ["the public key as a secret", { signature: (text) => `v1,${hmac(text, `whsec_${jwks.keys[1]!.x}`)}` }, {}, "signature"],
    ["an old stamp", { signature: byKey(ed.privateKey), at: start - 301_000 }, {}, "stale"],
  ])("and %s", async (_name, given, options, outcome) => {
    expect(await reasonOf(standard(given), options)).toBe(outcome);
  });
});

describe("a webhook of a job, with a token", () => {
  const seconds = start / 1000;
  const sha = createHash("sha256").update(event).digest();
  it.each<[string, Record<string, unknown>, Partial<WebhookVerifierOptions>, string]>([
    ["the usual claims", {}, { secret: [] }, "accepted"],
    ["keys not wanted", {}, { jwks: false }, "signature"],
    ["no issue time", { iat: undefined }, {}, "accepted"],
    ["no end", { exp: undefined }, {}, "accepted"],
    ["no time at all", { iat: undefined, exp: undefined }, {}, "stale"],
    ["an old issue time", { iat: seconds - 301 }, {}, "stale"],
    ["an issue time ahead", { iat: seconds + 301 }, {}, "stale"],
    ["an end that is over", { exp: seconds - 61 }, {}, "stale"],
    ["a beginning to come", { nbf: seconds + 61 }, {}, "stale"],
    ["times that are no numbers", { exp: "tomorrow" }, {}, "signature"],
    ["the right audience", { aud: "https://me.example/hook" }, { audience: ["x", "https://me.example/hook"] }, "accepted"],
    ["another audience", { aud: "https://you.example/hook" }, { audience: "https://me.example/hook" }, "signature"],
    ["no audience where one is wanted", {}, { audience: "https://me.example/hook" }, "signature"],
    ["the right issuer", { iss: "google" }, { issuer: "google" }, "accepted"],
    ["another issuer", { iss: "you" }, { issuer: "google" }, "signature"],
    ["the digest of the body", { body_sha256: sha.toString("hex") }, {}, "accepted"],
    ["the same in base64", { sha256: sha.toString("base64url") }, {}, "accepted"],
    ["another digest", { body_sha256: createHash("sha256").update("x").digest("hex") }, {}, "signature"],
    ["a digest that is none", { body_sha256: [sha.toString("hex")] }, {}, "signature"],
  ])("that has %s", async (_name, claims, options, outcome) => {
    expect(await reasonOf(withToken(await token(claims)), options)).toBe(outcome);
  });

  it("takes its id from the header, from the token, or from what it is", async () => {
    const verify = verifier();
    expect(await verify(withToken(await token({ jti: "t1" }), { headers: { "webhook-id": "m1" } }))).toMatchObject({ id: "m1" });
    expect(await verify(withToken(await token({ jti: "t2" })))).toMatchObject({ id: "t2" });
    expect(await verify(withToken(await token({})))).toMatchObject({ id: expect.stringMatching(/^[\w-]{43}$/) });
  });

  it("is accepted once, under whatever unsigned id it comes again", async () => {
    const verify = verifier();
    const text = await token();
    expect((await verify(withToken(text, { headers: { "webhook-id": "m1" } }))).accepted).toBe(true);
    expect(await verify(withToken(text, { headers: { "webhook-id": "m2" } }))).toEqual({ accepted: false, reason: "replayed" });
  });

  it("is old when its header says so", async () => {
    const headers = { "webhook-timestamp": String(seconds - 301) };
    expect(await reasonOf(withToken(await token(), { headers }))).toBe("stale");
    expect(await reasonOf(withToken(await token(), { headers: { "webhook-timestamp": "x" } }))).toBe("malformed");
  });

  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { iat: seconds, exp: seconds + 300 };
  const pem = rsa.publicKey.export({ format: "pem", type: "spki" });
  it.each<[string, () => string | Promise<string>]>([
    ["by another key", () => token({}, { key: otherRsa.privateKey })],
    ["by a key that nobody knows", () => token({}, { kid: "rsa-9" })],
    ["with PS256", () => token({}, { alg: "PS256" })],
    ["with Ed25519", () => token({}, { alg: "EdDSA", key: ed.privateKey, kid: "ed-1" })],
    ["with HS256 and the public key", () => token({}, { alg: "HS256", key: new TextEncoder().encode(String(pem)) })],
    ["with HS256 and the secret", () => token({}, { alg: "HS256", key: Buffer.from(secret.slice(6), "base64") })],
    ["with none", () => `${part({ alg: "none", kid: "rsa-1" })}.${part(claims)}.`],
    ["with none and a signature", () => `${part({ alg: "none", kid: "rsa-1" })}.${part(claims)}.${part({})}`],
    [
      "with a key of its own",
      () => {
        const header = part({ alg: "RS256", jwk: otherRsa.publicKey.export({ format: "jwk" }) });
        const text = `${header}.${part(claims)}`;
        return `${text}.${sign("sha256", Buffer.from(text), otherRsa.privateKey).toString("base64url")}`;
      },
    ],
    ["and changed", async () => (await token()).replace(/\.[^.]+\./, `.${part({ ...claims, exp: seconds + 999 })}.`)],
    ["of three words", () => "a.b.c"],
  ])("signed %s is refused", async (_name, make) => {
    expect(await reasonOf(withToken(await make()))).toBe("signature");
  });
});

describe("the public keys", () => {
  const answering = (answers: (() => Response | Promise<Response>)[]) => {
    const urls: string[] = [];
    const fetch: typeof globalThis.fetch = async (url) => {
      urls.push(String(url));
      const answer = answers[Math.min(urls.length, answers.length) - 1]!;
      return answer();
    };
    return { urls, fetch };
  };
  const good = () => Response.json(jwks);
  const renewed = () => Response.json({ keys: [jwk(otherRsa.publicKey, { kid: "rsa-2" }), jwk(otherEd.publicKey, {})] });
  const remote = (fetch: typeof globalThis.fetch, now: () => number = () => start) => createWebhookVerifier({ now, fetch });

  it("are Google's, fetched once, when they are needed", async () => {
    const { urls, fetch } = answering([good]);
    const verify = createWebhookVerifier({ secret, now: () => start, fetch });
    await verify(standard());
    expect(urls).toEqual([]);
    const tokens = await Promise.all([1, 2, 3].map((n) => token({ n })));
    const verdicts = await Promise.all(tokens.map((text) => verify(withToken(text))));
    expect(verdicts.every((verdict) => verdict.accepted)).toBe(true);
    expect(urls).toEqual(["https://generativelanguage.googleapis.com/.well-known/jwks.json"]);
  });

  it("are fetched again for one that is not among them, at most once a minute", async () => {
    let now = start;
    const { urls, fetch } = answering([good, good, renewed]);
    const verify = remote(fetch, () => now);
    const fresh = (n: number) => token({ n, iat: now / 1000, exp: now / 1000 + 60 }, { key: otherRsa.privateKey, kid: "rsa-2" });
    expect((await verify(withToken(await token()))).accepted).toBe(true);
    expect((await verify(withToken(await fresh(1)))).accepted).toBe(false);
    expect(urls).toHaveLength(1);
    now += 60_000;
    expect((await verify(withToken(await fresh(2)))).accepted).toBe(false);
    expect((await verify(withToken(await fresh(3)))).accepted).toBe(false);
    expect(urls).toHaveLength(2);
    now += 60_000;
    expect((await verify(withToken(await fresh(4)))).accepted).toBe(true);
    const signature = (text: string) => `v1a,${sign(null, Buffer.from(text), otherEd.privateKey).toString("base64")}`;
    expect((await verify(standard({ at: now, signature }))).accepted).toBe(true);
    expect(urls).toHaveLength(3);
  });

  it("are fetched again after an hour, and used for a day when they cannot be had", async () => {
    let now = start;
    const { urls, fetch } = answering([good, () => new Response("no", { status: 500 })]);
    const verify = remote(fetch, () => now);
    const ask = async () => {
      const verdict = await verify(withToken(await token({ iat: now / 1000, exp: now / 1000 + 60 })));
      return verdict.accepted ? "accepted" : verdict.reason;
    };
    expect(await ask()).toBe("accepted");
    now += 3_600_000;
    expect(await ask()).toBe("accepted");
    expect(urls).toHaveLength(2);
    now += 23 * 3_600_000;
    expect(await ask()).toBe("keys_unavailable");
  });

  it.each<[string, () => Response | Promise<Response>]>([
    ["an error", () => new Response("no", { status: 404 })],
    ["no JSON", () => new Response("<html>")],
    ["no set", () => Response.json({ keys: "x" })],
    ["too much", () => new Response("x".repeat(300_000))],
    ["nothing", () => Promise.reject(new TypeError("fetch failed"))],
  ])("cannot be had from %s", async (_name, answer) => {
    const verify = remote(answering([answer]).fetch);
    expect(await verify(withToken(await token()))).toEqual({ accepted: false, reason: "keys_unavailable" });
    const signature = (text: string) => `v1a,${sign(null, Buffer.from(text), ed.privateKey).toString("base64")}`;
    expect(await verify(standard({ signature }))).toEqual({ accepted: false, reason: "keys_unavailable" });
  });

  it("do not follow a redirect", async () => {
    let redirect: string | undefined;
    await remote(async (_url, init) => ((redirect = init?.redirect), good()))(withToken(await token()));
    expect(redirect).toBe("error");
  });
});

describe("options", () => {
  it.each<[Partial<WebhookVerifierOptions>, RegExp]>([
    [{ secret: "whsec_short" }, /secret of a webhook must be the text/],
    [{ secret: [secret, 5 as never] }, /secret of a webhook must be the text/],
    [{ secret: "whsec_ä".repeat(20) }, /secret of a webhook must be the text/],
    [{ secret: [], jwks: false }, /secret of a webhook must be given where jwks is false/],
    [{ jwks: "http://keys.example/jwks.json" }, /jwks of a webhook must be an https address/],
    [{ jwks: { keys: "x" } as never }, /jwks of a webhook must be an address or a JWK set/],
    [{ toleranceMs: 0 }, /toleranceMs of a webhook must be a positive number/],
    [{ audience: [] }, /audience of a webhook must be/],
    [{ issuer: "" }, /issuer of a webhook must be/],
  ])("refuses %j", (options, message) => {
    const thrown = (() => {
      try {
        return void verifier(options);
      } catch (error) {
        return error as Error;
      }
    })();
    expect(GembatchError.is(thrown)).toBe(true);
    expect(thrown!.message).toMatch(message);
    expect(thrown!.message).not.toContain(secret);
  });

  it.each(["http://localhost:80/jwks.json", new URL("https://keys.example/"), "http://[::1]/x"])("takes keys from %s", (url) => {
    expect(() => verifier({ jwks: url })).not.toThrow();
  });
});

describe("the handler", () => {
  const setUp = (options: Partial<WebhookVerifierOptions> = {}, onHint?: () => unknown) => {
    const time = { now: start };
    const lines: unknown[] = [];
    const log = {
      debug: (...line: unknown[]) => void lines.push(line),
      info() {},
      warn: (...line: unknown[]) => void lines.push(line),
      error() {},
    };
    const hints: number[] = [];
    const now = () => time.now;
    const verify = verifier({ now, ...options });
    const handle = createWebhookHandler({ verify, now, log, onHint: onHint ?? (() => void hints.push(time.now)) });
    const send = async (request: Request) => {
      const response = await handle(request);
      return [response.status, await response.text()] as const;
    };
    return { time, lines, hints, send, handle };
  };

  it("passes on a hint, and nothing else", async () => {
    const { hints, send } = setUp();
    expect(await send(standard())).toEqual([200, ""]);
    expect(hints).toEqual([start]);
  });

  it("passes on a hint whatever the body is", async () => {
    const { hints, send } = setUp();
    expect(await send(standard({ body: "{ not JSON" }))).toEqual([200, ""]);
    expect(hints).toHaveLength(1);
  });

  it("passes on one a second", async () => {
    const { hints, send, time } = setUp();
    for (let i = 0; i < 25; i += 1) {
      expect(await send(standard({ id: `m${i}` }))).toEqual([200, ""]);
      time.now += 100;
    }
    expect(hints).toEqual([start, start + 1_000, start + 2_000]);
    // A clock that was set back.
    time.now = start - 60_000;
    await send(standard({ id: "later" }));
    expect(hints).toHaveLength(4);
  });

  it("passes on one more at the end of the second, if it may wait", async () => {
    const clock = new ManualClock(start);
    const hints: number[] = [];
    const now = () => clock.now();
    const handle = createWebhookHandler({
      ...{ now, verify: verifier({ now }), sleep: (ms) => clock.sleep(ms) },
      onHint() {
        hints.push(now() - start);
        if (hints.length === 2) throw new Error("no store");
      },
    });
    for (let i = 0; i < 25; i += 1) {
      expect((await handle(standard({ id: `m${i}` }))).status).toBe(200);
      await clock.advance(100);
    }
    await clock.advance(60_000);
    expect(hints).toEqual([0, 1_000, 2_000, 3_000]);
  });

  it.each<[string, () => Request, number]>([
    ["forged", () => standard({ signature: (text) => `v1,${hmac(text, otherSecret)}` }), 401],
    ["stale", () => standard({ at: start - 600_000 }), 401],
    ["bare", () => new Request("https://me.example/", { method: "POST" }), 401],
    ["large", () => standard({ body: "x".repeat(1_000_001) }), 413],
    ["a GET", () => new Request("https://me.example/"), 405],
    ["a PUT", () => new Request("https://me.example/", { method: "PUT", body: event, headers: standard().headers }), 405],
  ])("gives no hint, no reason and %s: %s", async (_name, make, status) => {
    const { hints, send } = setUp();
    expect(await send(make())).toEqual([status, ""]);
    expect(hints).toEqual([]);
  });

  it("says what is allowed", async () => {
    const response = await setUp().handle(new Request("https://me.example/"));
    expect(response.headers.get("allow")).toBe("POST");
  });

  it("takes a repetition without a hint, so that it does not come again", async () => {
    const { hints, send, time } = setUp();
    await send(standard());
    time.now += 5_000;
    expect(await send(standard())).toEqual([200, ""]);
    expect(hints).toHaveLength(1);
  });

  it("lets the service try again when the keys cannot be had", async () => {
    const { hints, send } = setUp({ jwks: "https://keys.example/", fetch: () => Promise.reject(new TypeError("fetch failed")) });
    expect(await send(withToken(await token()))).toEqual([503, ""]);
    expect(hints).toEqual([]);
  });

  it("survives a hint that fails, and logs no more than that", async () => {
    const { lines, send } = setUp({}, () => Promise.reject(new RangeError(`no store, ${secret}`)));
    expect(await send(standard())).toEqual([200, ""]);
    expect(JSON.stringify(lines)).toContain("RangeError");
    expect(JSON.stringify(lines)).not.toContain(secret);
  });

  it("survives a body that breaks off", async () => {
    const body = new ReadableStream({ pull: (controller) => controller.error(new Error("gone")) });
    const request = new Request("https://me.example/", {
      method: "POST",
      body,
      duplex: "half",
      headers: standard().headers,
    });
    const { hints, send } = setUp();
    expect(await send(request)).toEqual([401, ""]);
    expect(hints).toEqual([]);
  });
});
