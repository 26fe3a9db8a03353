/** Webhooks over real HTTP: from an emulator to the handler behind `node:http`. */
import { randomBytes } from "node:crypto";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { afterEach, describe, expect, it } from "vitest";
import type { JobInput } from "../../core/provider.ts";
import { type Emulator, type EmulatorWebhooks, startEmulator } from "../../emulator.ts";
import { createWebhookHandler, createWebhookVerifier, gemini, type WebhookVerifierOptions } from "../../gemini.ts";

const secret = `whsec_${randomBytes(24).toString("base64")}`;
const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

interface Delivered {
  status: number;
  request: { url: string; headers: Record<string, string>; body: string };
}

/** An emulator in virtual time, and a handler that it calls. */
async function setUp(webhooks: (uri: string) => EmulatorWebhooks, options: (emulator: Emulator) => Partial<WebhookVerifierOptions>) {
  const time = { now: 1_800_000_000_000 };
  const now = () => time.now;
  const delivered: Delivered[] = [];
  const hints: number[] = [];
  let handle: (request: Request) => Promise<Response> = async () => new Response(null, { status: 500 });
  const server = createAdaptorServer({
    async fetch(request: Request) {
      const copy = request.clone();
      const response = await handle(request);
      const headers = Object.fromEntries([...copy.headers].filter(([name]) => name.startsWith("webhook-") || name === "content-type"));
      delivered.push({ status: response.status, request: { url: copy.url, headers, body: await copy.text() } });
      return response;
    },
  }) as Server;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))));
  const uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  const clock = { now, sleep: async (ms: number) => void (time.now += ms) };
  const emulator = await startEmulator({ turnaround: 60_000, clock, webhooks: webhooks(uri) });
  stops.push(() => emulator.close());
  const verify = createWebhookVerifier({ now, ...options(emulator) });
  handle = createWebhookHandler({ verify, now, onHint: () => hints.push(now()) });
  const run = async (perJob: boolean) => {
    const provider = gemini({ apiKey: "k", baseUrl: emulator.url, ...(perJob ? { webhook: { uri } } : {}) });
    const signal = new AbortController().signal;
    const input: JobInput = {
      ...{ token: "gb-1", lane: { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" }, requestCount: 1, bytes: 50 },
      rows: async function* () {
        yield { key: "r1", body: '{"contents":[{"parts":[{"text":"hi"}]}]}' };
      },
    };
    await provider.createJob(input, await provider.stageInput(input, signal), { signal, beforeSend: async () => true });
    time.now += 60_000;
    await emulator.idle();
  };
  const send = async ({ url, headers, body }: Delivered["request"]) => {
    const response = await fetch(url, { method: "POST", headers, body });
    return [response.status, await response.text()];
  };
  return { emulator, time, delivered, hints, run, send };
}

const jwks = (emulator: Emulator) => ({ jwks: `${emulator.url}/.well-known/jwks.json` });
const kinds: [string, boolean, Parameters<typeof setUp>][] = [
  ["of the project, HMAC", false, [(uri) => ({ uri, secret }), () => ({ secret, jwks: false })]],
  ["of a job, JWT", true, [() => ({ jobSignature: "jwt" }), jwks]],
  ["of a job, Ed25519", true, [() => ({ jobSignature: "ed25519" }), jwks]],
];

describe.each(kinds)("a webhook %s", (kind, perJob, args) => {
  it("is a hint when the job ends", async () => {
    const { delivered, hints, run, time } = await setUp(...args);
    await run(perJob);
    expect(delivered.map(({ status }) => status)).toEqual([200]);
    expect(hints).toEqual([time.now]);
    expect(delivered[0]!.request.headers["webhook-signature"]).toMatch(perJob ? (kind.endsWith("JWT") ? /^ey/ : /^v1a,/) : /^v1,/);
  });

  it("that is sent twice is one hint", async () => {
    const { delivered, emulator, hints, run, send, time } = await setUp(...args);
    emulator.faults.duplicateWebhooks = true;
    await run(perJob);
    expect(delivered.map(({ status }) => status)).toEqual([200, 200]);
    time.now += 10_000;
    expect(await send(delivered[0]!.request)).toEqual([200, ""]);
    expect(hints).toHaveLength(1);
  });

  it("is no hint when it is forged, changed or old", async () => {
    const { delivered, hints, run, send, time } = await setUp(...args);
    await run(perJob);
    const { request } = delivered[0]!;
    time.now += 10_000;
    const { headers } = request;
    const signature = headers["webhook-signature"]!;
    const swapped = signature.at(-5) === "A" ? "B" : "A";
    const changed = `${signature.slice(0, -5)}${swapped}${signature.slice(-4)}`;
    const wrong: Delivered["request"][] = [
      { ...request, headers: { ...headers, "webhook-signature": changed } },
      { ...request, headers: { ...headers, "webhook-signature": "v1,AAAA" } },
      { ...request, headers: {} },
      // The token of a job's webhook speaks for itself, not for its body: nothing of that is used.
      ...(signature.startsWith("ey") ? [] : [{ ...request, body: request.body.replace("succeeded", "failed") }]),
      ...(signature.startsWith("ey") ? [] : [{ ...request, headers: { ...headers, "webhook-id": "msg_other" } }]),
    ];
    for (const each of wrong) expect(await send(each)).toEqual([401, ""]);
    time.now += 300_001;
    expect(await send(request)).toEqual([401, ""]);
    expect(hints).toHaveLength(1);
  });
});

describe("a handler of another", () => {
  it("secret takes no webhook of the project", async () => {
    const { delivered, hints, run } = await setUp(
      (uri) => ({ uri, secret }),
      () => ({ secret: `whsec_${randomBytes(24).toString("base64")}`, jwks: false }),
    );
    await run(false);
    expect([delivered.map(({ status }) => status), hints]).toEqual([[401], []]);
  });

  it.each(["jwt", "ed25519"] as const)("service takes no webhook of a job: %s", async (jobSignature) => {
    const other = await startEmulator();
    stops.push(() => other.close());
    const { delivered, hints, run } = await setUp(
      () => ({ jobSignature }),
      () => jwks(other),
    );
    await run(true);
    expect([delivered.map(({ status }) => status), hints]).toEqual([[401], []]);
  });

  it.each([
    ["audience", 401, () => ({ audience: "https://other.example/hook" })],
    ["issuer", 401, () => ({ issuer: "other" })],
    ["mind, that this is for", 200, (uri: string) => ({ audience: uri, issuer: "gemini-emulator" })],
  ] as const)("%s: %i", async (_name, status, wanted) => {
    let uri = "";
    const { delivered, run } = await setUp(
      (address) => ((uri = address), {}),
      (emulator) => ({ ...jwks(emulator), ...wanted(uri) }),
    );
    await run(true);
    expect(delivered.map((each) => each.status)).toEqual([status]);
  });
});
