import { GoogleGenAI, ServiceTier } from "@google/genai";
import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorOptions } from "../emulator.ts";

type Any = any;
const model = "gemini-2.5-flash";

async function setUp(options: EmulatorOptions = {}) {
  const time = { now: 1_800_000_000_000 };
  const emulator = await startEmulator({
    turnaround: 1_000,
    clock: { now: () => time.now, sleep: async (ms) => void (time.now += ms) },
    ...options,
  });
  const post = async (path: string, body: unknown) => {
    const response = await fetch(`${emulator.url}/v1beta/models/${path}`, { method: "POST", body: JSON.stringify(body) });
    return { status: response.status, json: (await response.json()) as Any };
  };
  const ask = async (text: string, rest: object = {}) => post(`${model}:generateContent`, { contents: [{ parts: [{ text }] }], ...rest });
  const create = async (...texts: string[]) => {
    const requests = texts.map((text) => ({ request: { contents: [{ parts: [{ text }] }] }, metadata: { key: text } }));
    const { json } = await post(`${model}:batchGenerateContent`, { batch: { displayName: "d", inputConfig: { requests: { requests } } } });
    time.now += 1_000;
    await emulator.idle();
    return json;
  };
  return { emulator, time, post, ask, create, [Symbol.asyncDispose]: () => emulator.close() };
}

describe("the tier of a direct call", () => {
  it.each([
    [{}, "standard"],
    [{ serviceTier: "flex" }, "flex"],
    [{ serviceTier: "FLEX" }, "flex"],
    [{ service_tier: "flex" }, "flex"],
    [{ serviceTier: "SERVICE_TIER_FLEX" }, "flex"],
    [{ serviceTier: "standard" }, "standard"],
    [{ serviceTier: "unspecified" }, "standard"],
    [{ serviceTier: "priority" }, "priority"],
  ])("is what %j says: %s", async (rest, tier) => {
    await using t = await setUp();
    const { status, json } = await t.ask("a", rest);
    expect([status, json.usageMetadata.serviceTier]).toEqual([200, tier]);
    expect(t.emulator.ledger.directCalls).toEqual([
      {
        ...{ model, method: "generateContent", tier, hash: expect.any(String), at: t.time.now, billed: true },
        promptTokens: json.usageMetadata.promptTokenCount,
        outputTokens: json.usageMetadata.candidatesTokenCount + json.usageMetadata.thoughtsTokenCount,
      },
    ]);
  });

  it.each(["fast", 5])("is not %j", async (serviceTier) => {
    await using t = await setUp();
    expect((await t.ask("a", { serviceTier })).json.error.status).toBe("INVALID_ARGUMENT");
    expect(t.emulator.ledger.directCalls).toEqual([]);
  });

  it("is understood as the SDK sends it, and shown as it reads it", async () => {
    await using t = await setUp();
    const { models } = new GoogleGenAI({ apiKey: "k", httpOptions: { baseUrl: t.emulator.url } });
    const { usageMetadata } = await models.generateContent({ model, contents: "a", config: { serviceTier: ServiceTier.FLEX } });
    expect((usageMetadata as Any).serviceTier).toBe("flex");
    for await (const piece of await models.generateContentStream({ model, contents: "b", config: { serviceTier: ServiceTier.FLEX } }))
      void piece;
    expect(t.emulator.ledger.directCalls.map(({ tier }) => tier)).toEqual(["flex", "flex"]);
  });

  it("is not there for embeddings", async () => {
    await using t = await setUp();
    const body = { content: { parts: [{ text: "some words" }] }, serviceTier: "flex" };
    expect((await t.post("gemini-embedding-001:embedContent", body)).json.embedding.values).toHaveLength(3_072);
    expect(t.emulator.ledger.directCalls).toMatchObject([{ method: "embedContent", tier: "standard", billed: true, outputTokens: 0 }]);
    expect(t.emulator.ledger.tiers.standard.promptTokens).toBeGreaterThan(0);
  });
});

describe("the ledger of direct calls", () => {
  it("says what was billed at which tier", async () => {
    await using t = await setUp();
    await t.create("a", "b", "c");
    await t.ask("d", { serviceTier: "flex" });
    await t.ask("e");
    await t.ask("f", { serviceTier: "priority" });
    const { tiers, totals } = t.emulator.ledger;
    expect(Object.entries(tiers).map(([tier, { cost, billed }]) => [tier, cost, billed])).toEqual([
      ["batch", "half", 3],
      ["flex", "half", 1],
      ["standard", "full", 1],
      ["priority", "more", 1],
    ]);
    for (const field of ["promptTokens", "outputTokens"] as const) {
      expect(Object.values(tiers).reduce((sum, tier) => sum + tier[field], 0)).toBe(totals[field]);
    }
    expect(tiers.flex.promptTokens).toBeGreaterThan(0);
    const shown = (await (await fetch(`${t.emulator.url}/__emulator/ledger`)).json()) as Any;
    expect([shown.tiers.flex.billed, shown.directCalls.length]).toEqual([1, 3]);
    await t.emulator.reset();
    expect([t.emulator.ledger.tiers.flex.billed, t.emulator.ledger.directCalls]).toEqual([0, []]);
  });

  it("knows a prompt again, whether it came in a job or directly, at whatever tier", async () => {
    await using t = await setUp();
    await t.create("a", "b");
    await t.ask("a", { serviceTier: "flex" });
    expect(t.emulator.ledger.duplicatePrompts()).toMatchObject([{ sent: 2, billed: 2 }]);
    expect(t.emulator.ledger.paidTwice()).toMatchObject([{ sent: 2, billed: 2 }]);
    await t.ask("c", { serviceTier: "flex" });
    await t.ask("c");
    expect(t.emulator.ledger.paidTwice()).toHaveLength(2);
  });

  it("bills no prompt that failed", async () => {
    await using t = await setUp({ answer: () => ({ error: { code: 8, message: "Busy." } }) });
    expect((await t.ask("a")).status).toBe(429);
    expect(t.emulator.ledger.directCalls).toMatchObject([{ billed: false, promptTokens: 0 }]);
    expect(t.emulator.ledger.tiers.standard.billed).toBe(0);
    expect(t.emulator.ledger.totals.directCalls).toBe(1);
  });

  it("can be kept small", async () => {
    await using t = await setUp({ ledger: "counts" });
    await t.ask("a");
    expect(t.emulator.ledger.tiers.standard.billed).toBe(1);
    expect(() => t.emulator.ledger.directCalls).toThrow('ledger: "counts"');
  });
});

describe("faults of direct calls", () => {
  it.each([
    [true, 503, "UNAVAILABLE"],
    [{ code: 429 }, 429, "RESOURCE_EXHAUSTED"],
  ])("flexShed %j: %i, of flex calls only, and nothing is asked", async (flexShed, code, status) => {
    await using t = await setUp({ faults: { flexShed } });
    expect((await t.ask("a", { serviceTier: "flex" })).json.error).toMatchObject({ code, status });
    expect(t.emulator.ledger.directCalls).toEqual([]);
    expect((await t.ask("a")).status).toBe(200);
    await t.create("a");
    // Shed, asked directly, asked in a job: sent twice.
    expect(t.emulator.ledger.duplicatePrompts()).toMatchObject([{ sent: 2 }]);
  });

  it("flexSlow: flex calls only", async () => {
    await using t = await setUp({ faults: { flexSlow: { ms: 600_000, match: model } } });
    const { now } = t.time;
    await t.ask("a");
    expect(t.time.now).toBe(now);
    await t.ask("b", { serviceTier: "flex" });
    expect(t.time.now).toBe(now + 600_000);
    expect(t.emulator.ledger.directCalls[1]?.at).toBe(now);
  });

  it("flexSlow: bills a call that its client has given up", async () => {
    let release = (): void => undefined;
    const slept = new Promise<void>((resolve) => (release = resolve));
    await using t = await setUp({ faults: { flexSlow: true }, clock: { now: () => 0, sleep: () => slept } });
    const controller = new AbortController();
    const body = JSON.stringify({ contents: [{ parts: [{ text: "a" }] }], serviceTier: "flex" });
    const asked = fetch(`${t.emulator.url}/v1beta/models/${model}:generateContent`, { method: "POST", body, signal: controller.signal });
    await expect.poll(() => t.emulator.ledger.directCalls.length, { interval: 2 }).toBe(1);
    controller.abort();
    await expect(asked).rejects.toThrow();
    release();
    await expect.poll(() => t.emulator.ledger.tiers.flex.billed, { interval: 2 }).toBe(1);
  });

  it("directAnswerLost: billed, and the connection breaks", async () => {
    await using t = await setUp({ faults: { directAnswerLost: { times: 1 } } });
    await expect(t.ask("a")).rejects.toThrow("fetch failed");
    expect(t.emulator.ledger.tiers.standard.billed).toBe(1);
    await t.ask("a");
    expect(t.emulator.ledger.paidTwice()).toHaveLength(1);
  });
});

describe("faults of cancelling and creating", () => {
  const stateOf = async (emulator: { url: string }, name: string) =>
    ((await (await fetch(`${emulator.url}/v1beta/${name}`)).json()) as Any).metadata.state as string;
  const cancel = async (emulator: { url: string }, name: string) =>
    (await fetch(`${emulator.url}/v1beta/${name}:cancel`, { method: "POST", body: "{}" })).json();

  it.each([{}, { stuck: true }])("cancelledLater with %j: CANCELLED, then SUCCEEDED with results that are billed", async (faults) => {
    await using t = await setUp({ turnaround: 100_000, faults: { ...faults, cancelledLater: { ms: 5_000 } } });
    const { name } = await t.create("a", "b");
    expect(await cancel(t.emulator, name)).toEqual({});
    expect(await stateOf(t.emulator, name)).toBe("BATCH_STATE_CANCELLED");
    expect(t.emulator.ledger.jobs).toMatchObject([{ state: "CANCELLED", billedRows: 0 }]);
    t.time.now += 4_999;
    expect(await stateOf(t.emulator, name)).toBe("BATCH_STATE_CANCELLED");
    t.time.now += 1;
    const job = (await (await fetch(`${t.emulator.url}/v1beta/${name}`)).json()) as Any;
    expect(job.metadata.state).toBe("BATCH_STATE_SUCCEEDED");
    expect(job.response.inlinedResponses.inlinedResponses).toHaveLength(2);
    expect(t.emulator.ledger.jobs).toMatchObject([{ state: "SUCCEEDED", billedRows: 2 }]);
    expect(t.emulator.ledger.totals.billedRows).toBe(2);
    expect(Date.parse(job.metadata.endTime) - Date.parse(job.metadata.createTime)).toBe(6_000);
  });

  it("cancelledLater: nothing of it is seen in a job that nobody cancels", async () => {
    await using t = await setUp({ faults: { cancelledLater: true } });
    const { name } = await t.create("a");
    expect(await stateOf(t.emulator, name)).toBe("BATCH_STATE_SUCCEEDED");
    expect(t.emulator.ledger.totals.billedRows).toBe(1);
  });

  it("cancelIgnored: {} and the job goes on", async () => {
    await using t = await setUp({ turnaround: 10_000, faults: { cancelIgnored: { times: 1 } } });
    const { name } = await t.create("a");
    expect(await cancel(t.emulator, name)).toEqual({});
    expect(await stateOf(t.emulator, name)).toBe("BATCH_STATE_PENDING");
    await cancel(t.emulator, name);
    expect(await stateOf(t.emulator, name)).toBe("BATCH_STATE_CANCELLED");
  });

  it("duplicateCreate: two jobs of one call, inline and from a file", async () => {
    await using t = await setUp({ faults: { duplicateCreate: { times: 2 } } });
    const { name } = await t.create("a");
    expect(t.emulator.jobs().map((job) => [job.name === name, job.displayName, job.rows])).toEqual([
      [true, "d", 1],
      [false, "d", 1],
    ]);
    expect(t.emulator.ledger.paidTwice()).toHaveLength(1);
    const sdk = new GoogleGenAI({ apiKey: "k", httpOptions: { baseUrl: t.emulator.url } });
    const row = JSON.stringify({ key: "r", request: { contents: [{ parts: [{ text: "b" }] }] } });
    const file = await sdk.files.upload({ file: new Blob([row]), config: { mimeType: "application/jsonl" } });
    await sdk.batches.create({ model, src: { fileName: file.name! }, config: { displayName: "f" } });
    t.time.now += 1_000;
    await t.emulator.idle();
    expect(t.emulator.jobs().map((job) => [job.displayName, job.state])).toEqual([
      ["d", "SUCCEEDED"],
      ["d", "SUCCEEDED"],
      ["f", "SUCCEEDED"],
      ["f", "SUCCEEDED"],
    ]);
  });
});
