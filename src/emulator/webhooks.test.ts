import { createHmac, createPublicKey, randomBytes, verify, type JsonWebKey } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { GoogleGenAI } from "@google/genai";
import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorOptions } from "../emulator.ts";

type Any = any;
const model = "gemini-2.5-flash";
const secret = `whsec_${randomBytes(24).toString("base64")}`;

interface Received {
  headers: IncomingHttpHeaders;
  body: string;
}

/** A listener on this machine, and an emulator in virtual time whose jobs take a second. */
async function setUp(options: (uri: string) => EmulatorOptions, status = 200) {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    received.push({ headers: request.headers, body });
    response.writeHead(status).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  const time = { now: 1_800_000_000_500 };
  const clock = { now: () => time.now, sleep: async (ms: number) => void (time.now += ms) };
  const emulator = await startEmulator({ turnaround: 1_000, clock, ...options(uri) });
  const { batches } = new GoogleGenAI({ apiKey: "k", httpOptions: { baseUrl: emulator.url } });
  const create = async (uris: string[] = [], displayName = "d") => {
    const { name } = await batches.create({
      model,
      src: { inlinedRequests: [{ contents: [{ parts: [{ text: "a" }] }] }] },
      config: { displayName, ...(uris.length > 0 ? { webhookConfig: { uris, userMetadata: { mine: "yes" } } } : {}) },
    });
    return name!;
  };
  const end = async () => {
    time.now += 1_000;
    await emulator.idle();
  };
  return {
    ...{ emulator, received, uri, time, batches, create, end },
    async [Symbol.asyncDispose]() {
      await emulator.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const types = (received: readonly Received[]) => received.map(({ body }) => JSON.parse(body).type as string);

describe("the webhook of the project", () => {
  it("is sent once when a job ends, signed with the secret", async () => {
    await using t = await setUp((uri) => ({ webhooks: { uri, secret } }));
    const name = await t.create();
    await t.emulator.idle();
    expect(t.received).toEqual([]);
    await t.end();
    await t.emulator.idle();
    expect(t.received).toHaveLength(1);
    const { headers, body } = t.received[0]!;
    expect(JSON.parse(body)).toEqual({
      type: "batch.succeeded",
      version: "v1",
      timestamp: new Date(t.time.now).toISOString(),
      data: { id: name.replace("batches/", "batch_") },
    });
    const [id, timestamp] = [headers["webhook-id"], headers["webhook-timestamp"]];
    expect(timestamp).toBe(String(Math.floor(t.time.now / 1_000)));
    const key = Buffer.from(secret.slice(6), "base64");
    expect(headers["webhook-signature"]).toBe(`v1,${createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64")}`);
    expect(t.emulator.ledger.webhooks).toEqual([{ uri: t.uri, id, type: "batch.succeeded", job: name, status: 200 }]);
  });

  it.each([
    ["jobFails", "batch.failed"],
    ["jobExpires", "batch.expired"],
    ["jobCancelledOutside", "batch.cancelled"],
  ] as const)("tells how it ended: %s, %s", async (fault, type) => {
    await using t = await setUp((uri) => ({ webhooks: { uri, secret }, faults: { [fault]: true } }));
    await t.create();
    await t.end();
    expect(types(t.received)).toEqual([type]);
    expect(JSON.parse(t.received[0]!.body).data.error_code).toBe(fault === "jobFails" ? "13" : undefined);
  });

  it("is sent when a job is cancelled, and again when that job succeeds after all", async () => {
    await using t = await setUp((uri) => ({ turnaround: 10_000, webhooks: { uri, secret }, faults: { cancelledLater: { ms: 1_000 } } }));
    const name = await t.create();
    await t.batches.cancel({ name });
    await t.emulator.idle();
    expect(types(t.received)).toEqual(["batch.cancelled"]);
    await t.end();
    expect(types(t.received)).toEqual(["batch.cancelled", "batch.succeeded"]);
  });

  it("is not sent for jobs that are stuck or deleted", async () => {
    await using t = await setUp((uri) => ({ webhooks: { uri, secret }, faults: { stuck: { match: "stuck" } } }));
    await t.create([], "stuck");
    await t.batches.delete({ name: await t.create() });
    await t.end();
    expect(t.received).toEqual([]);
  });

  it("is sent without anybody looking, with real time", async () => {
    await using t = await setUp((uri) => ({
      turnaround: 5,
      clock: undefined,
      webhooks: { uri, secret },
      faults: { cancelledLater: { ms: 5 } },
    }));
    await t.create();
    await expect.poll(() => types(t.received), { interval: 5 }).toEqual(["batch.succeeded"]);
  });

  it("duplicateWebhooks, webhookLost: twice with one id, not at all", async () => {
    const faults = { duplicateWebhooks: { match: "twice" }, webhookLost: { match: "lost" } };
    await using t = await setUp((uri) => ({ webhooks: { uri, secret }, faults }));
    await t.create([], "twice");
    await t.create([], "lost");
    await t.end();
    expect(t.received).toHaveLength(2);
    expect(t.received[0]!.headers["webhook-id"]).toBe(t.received[1]!.headers["webhook-id"]);
    expect(t.emulator.ledger.webhooks).toHaveLength(2);
    expect(t.emulator.ledger.faults).toMatchObject({ duplicateWebhooks: 1, webhookLost: 1 });
  });

  it("is not sent again when it is refused or nobody listens", async () => {
    await using t = await setUp((uri) => ({ webhooks: { uri, secret } }), 500);
    await t.create(["http://127.0.0.1:9/nobody"]);
    await t.end();
    expect(t.received).toHaveLength(1);
    expect(t.emulator.ledger.webhooks.map(({ status }) => status)).toEqual([500, 0]);
  });
});

describe("webhooks of a job", () => {
  const keysOf = async (url: string) =>
    ((await (await fetch(`${url}/.well-known/jwks.json`)).json()) as { keys: (JsonWebKey & { kid: string })[] }).keys;
  const part = (text: string): Any => JSON.parse(Buffer.from(text, "base64url").toString());

  it("carry a JWT with RS256, whose key is published", async () => {
    await using t = await setUp(() => ({}));
    await t.create([t.uri]);
    await t.end();
    const { headers, body } = t.received[0]!;
    const [header, claims, signature] = String(headers["webhook-signature"]).split(".") as [string, string, string];
    const seconds = Math.floor(t.time.now / 1_000);
    expect(part(header)).toEqual({ alg: "RS256", typ: "JWT", kid: "emulator-rsa" });
    expect(part(claims)).toEqual({ iss: "gemini-emulator", aud: t.uri, iat: seconds, exp: seconds + 300, jti: headers["webhook-id"] });
    const key = (await keysOf(t.emulator.url)).find(({ kid }) => kid === "emulator-rsa")!;
    expect(key).not.toHaveProperty("d");
    const good = verify(
      "sha256",
      Buffer.from(`${header}.${claims}`),
      createPublicKey({ key, format: "jwk" }),
      Buffer.from(signature, "base64url"),
    );
    expect(good).toBe(true);
    expect(JSON.parse(body).data.user_metadata).toEqual({ mine: "yes" });
  });

  it("carry an Ed25519 signature, if wanted", async () => {
    await using t = await setUp(() => ({ webhooks: { jobSignature: "ed25519" } }));
    await t.create([t.uri]);
    await t.end();
    const { headers, body } = t.received[0]!;
    const key = (await keysOf(t.emulator.url)).find(({ crv }) => crv === "Ed25519")!;
    const signature = String(headers["webhook-signature"]);
    expect(signature).toMatch(/^v1a,/);
    const text = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
    expect(verify(null, text, createPublicKey({ key, format: "jwk" }), Buffer.from(signature.slice(4), "base64"))).toBe(true);
  });

  it("go to every address of the job, beside that of the project, and never to another machine", async () => {
    const lines: string[] = [];
    await using t = await setUp((uri) => ({ webhooks: { uri, secret }, log: (line) => void lines.push(line) }));
    await t.create([t.uri, "https://elsewhere.example/hook", `${t.uri}/b`]);
    await t.end();
    expect(t.emulator.ledger.webhooks.map(({ uri }) => uri)).toEqual([t.uri, t.uri, `${t.uri}/b`]);
    expect(lines.join("\n")).toContain("not sent: the emulator calls this machine only");
  });
});

describe("the options of webhooks", () => {
  it.each([
    [{ uri: "https://elsewhere.example/hook", secret }, "webhooks.uri"],
    [{ uri: "http://127.0.0.1.elsewhere.example/", secret }, "webhooks.uri"],
    [{ uri: "file:///etc/passwd", secret }, "webhooks.uri"],
    [{ uri: "http://localhost/hook" }, "webhooks.secret"],
    [{ uri: "http://localhost/hook", secret: "x" }, "webhooks.secret"],
  ])("%j is refused", async (webhooks, message) => {
    await expect(startEmulator({ webhooks })).rejects.toThrow(message);
  });
});
