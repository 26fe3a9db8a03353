import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorOptions } from "../emulator.ts";
import { isBlank, splitLines } from "./lines.ts";

type Any = any;
const hour = 3_600_000;
const model = "gemini-2.5-flash";

async function setUp(options: EmulatorOptions = {}) {
  const time = { now: 1_800_000_000_000 };
  const emulator = await startEmulator({ clock: { now: () => time.now, sleep: async (ms) => void (time.now += ms) }, ...options });
  const call = async (method: string, path: string, body?: unknown) =>
    (await (
      await fetch(`${emulator.url}/v1beta/${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
    ).json()) as Any;
  const create = (texts: string[] = ["a"], displayName = "") => {
    const requests = texts.map((text) => ({ request: { contents: [{ parts: [{ text }] }] } }));
    return call("POST", `models/${model}:batchGenerateContent`, { batch: { displayName, inputConfig: { requests: { requests } } } });
  };
  const stateOf = async (name: string) => ((await call("GET", name)).metadata.state as string).slice("BATCH_STATE_".length);
  return { emulator, time, call, create, stateOf, [Symbol.asyncDispose]: () => emulator.close() };
}

describe("virtual time", () => {
  it("decides the state of a job alone", async () => {
    await using t = await setUp({ turnaround: hour, pendingFraction: 0.5 });
    const { name } = await t.create();
    const states: string[] = [];
    for (const at of [0, hour / 2 - 1, hour / 2, hour - 1, hour]) {
      t.time.now = 1_800_000_000_000 + at;
      states.push(await t.stateOf(name));
    }
    expect(states).toEqual(["PENDING", "PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]);
    const { metadata } = await t.call("GET", name);
    expect(Date.parse(metadata.endTime) - Date.parse(metadata.createTime)).toBe(hour);
  });

  it("waits for answers that are late, instead of showing another state", async () => {
    let answer: (text: string) => void = () => undefined;
    const late = new Promise<string>((resolve) => (answer = resolve));
    await using t = await setUp({ turnaround: 10, answer: () => late });
    const { name } = await t.create();
    t.time.now += 10;
    const state = t.stateOf(name);
    answer("now");
    expect(await state).toBe("SUCCEEDED");
  });

  it("expires jobs after 48 hours, with nothing", async () => {
    await using t = await setUp({ turnaround: 72 * hour });
    const { name } = await t.create();
    t.time.now += 48 * hour - 1;
    expect(await t.stateOf(name)).toBe("RUNNING");
    t.time.now += 1;
    expect(await t.stateOf(name)).toBe("EXPIRED");
    expect(await t.call("GET", name)).not.toHaveProperty("response");
    expect(t.emulator.ledger.totals).toMatchObject({ sentRows: 1, billedRows: 0 });
  });

  it("expires uploads after 48 hours: 403", async () => {
    await using t = await setUp();
    const headers = { "x-goog-upload-protocol": "resumable", "x-goog-upload-command": "start" };
    const started = await fetch(`${t.emulator.url}/upload/v1beta/files`, { method: "POST", headers, body: "{}" });
    const url = started.headers.get("x-goog-upload-url") ?? "";
    const done = await fetch(url, {
      method: "POST",
      headers: { "x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0" },
      body: "x",
    });
    const { name } = ((await done.json()) as Any).file;
    expect((await t.call("GET", name)).name).toBe(name);
    t.time.now += 48 * hour;
    expect((await t.call("GET", name)).error).toMatchObject({ code: 403, status: "PERMISSION_DENIED" });
    expect(await t.call("GET", "files")).toEqual({});
  });

  it("takes turnarounds from a range or a function", async () => {
    const infos: Any[] = [];
    await using t = await setUp({ turnaround: (job) => infos.push(job) * hour });
    const first = await t.create(["a", "b"], "one");
    const second = await t.create(["c"], "two");
    t.time.now += hour;
    expect([await t.stateOf(first.name), await t.stateOf(second.name)]).toEqual(["SUCCEEDED", "RUNNING"]);
    expect(infos).toEqual([
      { model, displayName: "one", rows: 2, method: "generateContent", ordinal: 0 },
      { model, displayName: "two", rows: 1, method: "generateContent", ordinal: 1 },
    ]);
  });

  it("adds latency to every call", async () => {
    await using t = await setUp({ latency: 40 });
    const before = t.time.now;
    await t.call("GET", "batches");
    expect(t.time.now - before).toBe(40);
  });
});

describe("cancelling and deleting", () => {
  it("a cancelled job is not billed; an ended one stays as it is", async () => {
    await using t = await setUp({ turnaround: 100 });
    const { name } = await t.create();
    expect(await t.call("POST", `${name}:cancel`, {})).toEqual({});
    t.time.now += 100;
    expect(await t.call("GET", name)).toMatchObject({ done: true, error: { code: 1 }, metadata: { state: "BATCH_STATE_CANCELLED" } });
    expect(t.emulator.ledger.totals.billedRows).toBe(0);
    const ended = await t.create();
    t.time.now += 100;
    await t.call("POST", `${ended.name}:cancel`, {});
    expect(await t.stateOf(ended.name)).toBe("SUCCEEDED");
  });

  it("a deleted job goes on and is billed", async () => {
    await using t = await setUp({ turnaround: 100 });
    const { name } = await t.create();
    await t.call("DELETE", name);
    t.time.now += 100;
    await t.emulator.idle();
    expect(t.emulator.jobs()).toMatchObject([{ name, deleted: true, state: "SUCCEEDED", billedRows: 1 }]);
    expect(t.emulator.ledger.totals.billedRows).toBe(1);
  });
});

describe("options", () => {
  it("models: what exists", async () => {
    for (const models of [["models/own-model"], /^own-/, (name: string) => name === "own-model"]) {
      await using t = await setUp({ models });
      const ask = async (name: string) =>
        (await t.call("POST", `models/${name}:generateContent`, { contents: [{ parts: [{ text: "a" }] }] })).error?.code as unknown;
      expect([await ask("own-model"), await ask(model)]).toEqual([undefined, 404]);
    }
  });

  it("uniqueKeys: a key that occurs twice is malformed", async () => {
    await using t = await setUp({ uniqueKeys: true });
    const requests = ["a", "b", "a"].map((key) => ({ request: { contents: [{ parts: [{ text: key }] }] }, metadata: { key } }));
    const { error } = await t.call("POST", `models/${model}:batchGenerateContent`, { batch: { inputConfig: { requests: { requests } } } });
    expect(error.message).toContain('Request 3 (key "a") is malformed: its key occurs twice');
  });

  it("limits count what the clock says, not what is still being computed", async () => {
    await using t = await setUp({ turnaround: 100, limits: { concurrentJobs: 1 } });
    await t.create(Array.from({ length: 500 }, (_, i) => `a ${i}`));
    expect((await t.create()).error.code).toBe(429);
    t.time.now += 100;
    expect((await t.create()).metadata.state).toBe("BATCH_STATE_PENDING");
  });
});

describe("the ledger", () => {
  it("counts prompts that were sent or billed more than once", async () => {
    await using t = await setUp({ turnaround: 100, faults: { jobFails: { times: 1 } } });
    await t.create(["a", "b"]);
    await t.create(["a", "c"]);
    t.time.now += 100;
    await t.emulator.idle();
    expect(t.emulator.ledger.duplicatePrompts()).toMatchObject([{ sent: 2, billed: 1 }]);
    expect(t.emulator.ledger.paidTwice()).toEqual([]);
    await t.create(["c"]);
    t.time.now += 100;
    await t.emulator.idle();
    expect(t.emulator.ledger.paidTwice()).toMatchObject([{ sent: 2, billed: 2 }]);
    expect([...t.emulator.ledger.promptCounts().values()].toSorted((a, b) => a - b)).toEqual([1, 2, 2]);
    expect(t.emulator.ledger.totals).toMatchObject({ jobs: 3, sentRows: 5, billedRows: 3, peakConcurrentJobs: 2 });
  });

  it("can be kept small", async () => {
    await using t = await setUp({ turnaround: 0, ledger: "counts" });
    await t.create(["a", "a"]);
    await t.emulator.idle();
    expect(t.emulator.ledger.totals.billedRows).toBe(2);
    expect(() => t.emulator.ledger.promptCounts()).toThrow('ledger: "counts"');
    expect(JSON.stringify(t.emulator.ledger)).not.toContain("duplicatePrompts");
  });
});

describe("start and end", () => {
  it("never gives a name twice, even with the same seed and after a reset", async () => {
    await using a = await setUp({ seed: "s" });
    const first = await a.create();
    await a.emulator.reset();
    const second = await a.create();
    await using b = await startEmulator({ seed: "s" });
    const third = (await (
      await fetch(`${b.url}/v1beta/models/${model}:batchGenerateContent`, {
        method: "POST",
        body: JSON.stringify({
          batch: { inputConfig: { requests: { requests: [{ request: { contents: [{ parts: [{ text: "a" }] }] } }] } } },
        }),
      })
    ).json()) as Any;
    expect(new Set([first.name, second.name, third.name]).size).toBe(3);
    expect(a.emulator.jobs()).toHaveLength(1);
  });

  it("leaves nothing behind in a folder of its own choice, and closes with a script that never answers", async () => {
    const dir = await mkdtemp(join(tmpdir(), "emulator-dir-"));
    const t = await setUp({ dir, turnaround: 10, answer: () => new Promise(() => undefined) });
    await t.create();
    expect(await readdir(dir)).toHaveLength(1);
    await t.emulator.close();
    await t.emulator.close();
    expect(existsSync(dir)).toBe(true);
    await rm(dir, { recursive: true });
  });

  it("stays RUNNING in real time until the rows are answered", async () => {
    let answer: (text: string) => void = () => undefined;
    const late = new Promise<string>((resolve) => (answer = resolve));
    await using t = await setUp({ clock: undefined, turnaround: 0, answer: () => late });
    const { name } = await t.create();
    expect(await t.stateOf(name)).toBe("RUNNING");
    answer("x");
    await t.emulator.idle();
    expect(await t.stateOf(name)).toBe("SUCCEEDED");
  });
});

describe("lines", () => {
  it("are split at line feeds only, across chunks", async () => {
    const text = 'a\u2028b\n\n{"x":"\u2029é"}\r\nlast';
    const bytes = Buffer.from(text);
    for (const size of [1, 2, 3, 5, 100]) {
      const chunks = async function* () {
        for (let i = 0; i < bytes.length; i += size) yield new Uint8Array(bytes.subarray(i, i + size));
      };
      const lines: string[] = [];
      for await (const group of splitLines(chunks())) lines.push(...group.map(String));
      expect(lines).toEqual(text.split("\n"));
    }
    expect([isBlank(Buffer.from(" \t\r")), isBlank(Buffer.from("")), isBlank(Buffer.from("x"))]).toEqual([true, true, false]);
  });
});
