import type { EmbedContentResponse } from "@google/genai";
import { describe, expect, it } from "vitest";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { GembatchError } from "../../src/index.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { createTestKit, ManualClock, SteerableProvider, textResponse } from "../../src/testing.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Bytes of what is in use. */
function heapBytes(): number {
  collect();
  collect();
  return process.memoryUsage().heapUsed;
}

const ask = (text: string, model = "gemini-2.5-flash") => ({ model, contents: text });

describe("a chain", () => {
  it("gets each answer where it asked, one job a step", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("digest", async ({ models }, doc: { text: string }) => {
      const summary = await models.generateContent(ask(`s:${doc.text}`));
      const title = await models.generateContent(ask(`t:${summary.text}`));
      return { summary: summary.text, title: title.text };
    });
    const runs = await Promise.all(Array.from({ length: 100 }, async (_, n) => chain.start({ text: `doc ${n}` }, { id: `doc-${n}` })));
    await kit.run();
    expect(await runs[7]!.result()).toEqual({ summary: "<s:doc 7>", title: "<t:<s:doc 7>>" });
    expect(kit.provider.jobs.map(({ rows }) => rows.length)).toEqual([100, 100]);
  });

  it("replays the same with and without turns kept in memory", async () => {
    for (const parkedBytes of [0, 1_000_000]) {
      let calls = 0;
      await using kit = createTestKit({ worker: { parkedBytes } });
      const chain = kit.gembatch.chain("count", async ({ models, random, now, step }, n: number) => {
        calls += 1;
        const before = [random(), now()];
        const a = await models.generateContent(ask(`a${n}`));
        const stepped = await step("side effect", () => ({ stepped: a.text }));
        const b = await models.generateContent(ask(`b${random()}`));
        return { before, a: a.text, stepped, bLength: b.text!.length };
      });
      const run = await chain.start(1, { id: "one" });
      await kit.run();
      expect(await run.result()).toMatchObject({ a: "<a1>", stepped: { stepped: "<a1>" } });
      expect(kit.provider.jobs).toHaveLength(2);
      expect(calls).toBe(parkedBytes === 0 ? 3 : 1);
    }
  });

  it("that waits keeps its own prompt in memory, and no second text of it", async () => {
    await using kit = createTestKit({ batching: { debounce: "1h" }, worker: { parkedBytes: 1_000_000_000 } });
    const size = 300_000;
    const chain = kit.gembatch.chain("large", async ({ models }, n: number) => {
      const response = await models.generateContent(ask(`${n} ${"x".repeat(size)}`));
      return response.text?.length;
    });
    // What the first run makes for all others is no part of it.
    await chain.start(-1);
    await kit.advance("1s");
    const before = heapBytes();
    await chain.startMany(Array.from({ length: 50 }, (_, n) => n));
    await kit.advance("1s");
    expect((await kit.gembatch.stats()).runs.waiting).toBe(51);
    expect((heapBytes() - before) / 50).toBeLessThan(1.5 * size);
  });

  it("asks parallel prompts in one job and races to the same winner at every replay", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 } });
    const winners: string[] = [];
    const chain = kit.gembatch.chain("race", async ({ models }) => {
      const winner = await Promise.race(["x", "y", "z"].map(async (text) => (await models.generateContent(ask(text))).text!));
      winners.push(winner);
      const all = await Promise.all(["1", "2"].map(async (text) => (await models.generateContent(ask(`${winner}${text}`))).text));
      return all;
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual(["<<x>1>", "<<x>2>"]);
    expect(new Set(winners)).toEqual(new Set(["<x>"]));
    expect(kit.provider.jobs.map(({ rows }) => rows.length)).toEqual([3, 2]);
  });

  it("tells equal prompts apart by their order, and by scope", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 } });
    const chain = kit.gembatch.chain("twice", async ({ models, scope }) => {
      const texts = await Promise.all([
        models.generateContent(ask("same")),
        models.generateContent(ask("same")),
        scope("branch", async () => models.generateContent(ask("same"))),
      ]);
      return texts.length;
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toBe(3);
    expect(kit.provider.jobs[0]!.rows).toHaveLength(3);
  });

  it("embeds, streams and speaks to any SDK through fetch", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("modes", async ({ models, fetch }) => {
      const embedded = await models.embedContent({ model: "gemini-embedding-001", contents: ["a", "bcd"] });
      let streamed = "";
      for await (const chunk of await models.generateContentStream(ask("flow"))) streamed += chunk.text;
      const url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent";
      const response = await fetch(url, { method: "POST", body: JSON.stringify({ contents: [{ parts: [{ text: "raw" }] }] }) });
      const body = (await response.json()) as { candidates: { content: { parts: { text: string }[] } }[] };
      return { values: embedded.embeddings?.map(({ values }) => values), streamed, raw: body.candidates[0]!.content.parts[0]!.text };
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual({
      values: [
        [1, 1, 0],
        [3, 1, 0],
      ],
      streamed: "<flow>",
      raw: "<raw>",
    });
    expect(kit.provider.jobs.map(({ lane }) => lane.method)).toEqual(["embedContent", "generateContent", "generateContent"]);
  });

  it("calls child chains, maps over them, sleeps", async () => {
    await using kit = createTestKit();
    const child = kit.gembatch.chain("child", async ({ models }, word: string) => (await models.generateContent(ask(word))).text!);
    const parent = kit.gembatch.chain("parent", async ({ call, map, sleep, now }) => {
      const one = await call(child, "one");
      const many = await map(child, ["a", "b", "c"]);
      const before = now();
      await sleep("2h");
      return { one, many, slept: now() - before };
    });
    const run = await parent.start(undefined);
    await kit.run();
    expect(await run.result()).toMatchObject({ one: "<one>", many: ["<a>", "<b>", "<c>"] });
    expect((await run.result()).slept).toBeGreaterThanOrEqual(7_200_000);
    expect(kit.provider.jobs.map(({ rows }) => rows.length)).toEqual([1, 3]);
  });

  it("fails with its own error, and its children's reach the parent", async () => {
    await using kit = createTestKit();
    const bad = kit.gembatch.chain("bad", async () => {
      throw new TypeError("boom");
    });
    const parent = kit.gembatch.chain("catches", async ({ call }) => {
      try {
        await call(bad, undefined);
        return "no";
      } catch (error) {
        return (error as Error).message;
      }
    });
    const failing = await bad.start(undefined);
    const run = await parent.start(undefined);
    await kit.run();
    await expect(failing.result()).rejects.toMatchObject({ name: "TypeError", message: "boom", code: "run_failed" });
    expect(await run.result()).toBe("boom");
  });

  it("is held when the same code asks for something else, and shows both prompts", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 } });
    let n = 0;
    const chain = kit.gembatch.chain("moody", async ({ models }) => {
      n += 1;
      return (await models.generateContent(ask(`time ${n}`))).text;
    });
    const run = await chain.start(undefined);
    await kit.run();
    const record = await run.get();
    expect(record.state).toBe("held");
    expect(record.error).toMatchObject({ code: "non_determinism" });
    expect(JSON.stringify(record.error!.details)).toContain("time 1");
    expect(JSON.stringify(record.error!.details)).toContain("time 2");
    expect(kit.provider.jobs).toHaveLength(1);
    await expect(run.result()).rejects.toMatchObject({ code: "run_held" });
  });

  it("keeps paid answers across a deploy and asks only what changed", async () => {
    const path = `${mkdtempSync(join(tmpdir(), "gembatch-deploy-"))}/deploy.db`;
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    {
      await using kit = createTestKit({ store: new SqliteStore({ path }), provider, clock });
      const chain = kit.gembatch.chain("deploy", async ({ models }) => {
        const a = await models.generateContent(ask("first"));
        const b = await models.generateContent(ask(`old ${a.text}`));
        return b.text;
      });
      await chain.start(undefined, { id: "r" });
      await kit.advance("90s");
      expect(provider.jobs).toHaveLength(2);
    }
    await using kit = createTestKit({ store: new SqliteStore({ path }), provider, clock });
    const chain = kit.gembatch.chain("deploy", async ({ models }) => {
      const a = await models.generateContent(ask("first"));
      const b = await models.generateContent(ask(`new ${a.text}`));
      return b.text;
    });
    await kit.run();
    const run = chain.run("r");
    expect(await run.result()).toBe("<new <first>>");
    expect(provider.jobs.map(({ rows }) => rows.length)).toEqual([1, 1, 1]);
    expect((await run.get()).notes.join()).toContain("New code");
  });

  it("goes on after a deploy that edits an early prompt, over any number of further turns", async () => {
    const path = `${mkdtempSync(join(tmpdir(), "gembatch-deploy-"))}/deploy.db`;
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    const worker = { parkedBytes: 0 };
    {
      await using kit = createTestKit({ store: new SqliteStore({ path }), provider, clock, worker });
      const chain = kit.gembatch.chain("edited", async ({ models, step }) => {
        const a = await models.generateContent(ask("old first"));
        await step("old step", () => 1);
        return (await models.generateContent(ask(`old second ${a.text}`))).text;
      });
      await chain.start(undefined, { id: "r" });
      await kit.advance("90s");
    }
    await using kit = createTestKit({ store: new SqliteStore({ path }), provider, clock, worker });
    let tries = 0;
    const chain = kit.gembatch.chain(
      "edited",
      async ({ models, step }) => {
        tries += 1;
        if (tries === 1) throw new Error("the first turn of the new code fails");
        const a = await models.generateContent(ask("new first"));
        await step("new step", () => 1);
        const b = await models.generateContent(ask(`new second ${a.text}`));
        return (await models.generateContent(ask(`new third ${b.text}`))).text;
      },
      { maxAttempts: 2 },
    );
    await kit.run();
    expect(await chain.run("r").result()).toBe("<new third <new second <new first>>>");
  });

  it("logs what happens for the first time, not what is replayed", async () => {
    const lines: string[] = [];
    const logger = { debug() {}, info: (text: string) => lines.push(text), warn() {}, error() {} };
    await using kit = createTestKit({ logger, worker: { parkedBytes: 0 } });
    const chain = kit.gembatch.chain("talks", async ({ models, now, log }) => {
      now();
      log.info("one");
      await models.generateContent(ask("a"));
      log.info("two");
      await models.generateContent(ask("b"));
      log.info("three");
    });
    await chain.start(undefined);
    await kit.run();
    expect(lines.filter((text) => ["one", "two", "three"].includes(text))).toEqual(["one", "two", "three"]);
  });

  it("keeps an answer under an explicit key, as onChange says", async () => {
    for (const [onChange, expected] of [
      ["reuse", "<v1>"],
      ["redo", "<v2>"],
    ] as const) {
      await using kit = createTestKit({ worker: { parkedBytes: 0 } });
      let version = 1;
      const chain = kit.gembatch.chain("keyed", async ({ models }) => {
        const first = await models.generateContent(ask(`v${version}`), { key: "first", onChange });
        await models.generateContent(ask("second"));
        return first.text;
      });
      const run = await chain.start(undefined);
      await kit.advance("62s");
      version = 2;
      await kit.run();
      expect(await run.result()).toBe(expected);
      expect((await run.get()).notes.join()).toContain("edited");
    }
  });

  it("survives a call that comes after its turn was over, and warns once", async () => {
    const warnings: string[] = [];
    const logger = { debug() {}, info() {}, warn: (text: string) => warnings.push(text), error() {} };
    await using kit = createTestKit({ logger });
    let resolveLate!: () => void;
    const late = new Promise<void>((resolve) => (resolveLate = resolve));
    const chain = kit.gembatch.chain("late", async ({ models }) => {
      const [a, b] = await Promise.all([models.generateContent(ask("early")), late.then(async () => models.generateContent(ask("late")))]);
      return [a.text, b.text];
    });
    const run = await chain.start(undefined);
    await kit.advance("10s");
    resolveLate();
    await new Promise((resolve) => setTimeout(resolve, 5));
    await kit.run();
    expect(await run.result()).toEqual(["<early>", "<late>"]);
    expect(warnings.filter((text) => text.includes("outside of step()"))).toHaveLength(1);
  });

  it("gives blocked, truncated and empty answers as responses, and only errors as rejections", async () => {
    await using kit = createTestKit({
      answer: (prompt) => {
        if (prompt === "blocked") return { response: { promptFeedback: { blockReason: "SAFETY" } } };
        if (prompt === "cut") return { response: { candidates: [{ finishReason: "MAX_TOKENS", content: { parts: [{ text: "half" }] } }] } };
        if (prompt === "none") return { response: { candidates: [] } };
        return { error: { code: 3, message: "bad argument" } };
      },
    });
    const chain = kit.gembatch.chain("outcomes", async ({ models }) => {
      const [blocked, cut, none, failed] = await Promise.all([
        models.generateContent(ask("blocked")),
        models.generateContent(ask("cut")),
        models.generateContent(ask("none")),
        models.generateContent(ask("fail")).catch((error: unknown) => error as GembatchError),
      ]);
      return {
        blocked: blocked.promptFeedback?.blockReason,
        cut: [cut.text, cut.candidates?.[0]?.finishReason],
        none: [none.text ?? null, none.candidates?.length],
        failed: GembatchError.is(failed) ? [failed.code, failed.retryable] : failed,
      };
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual({
      blocked: "SAFETY",
      cut: ["half", "MAX_TOKENS"],
      none: [null, 0],
      failed: ["request_failed", false],
    });
  });

  it("answers other SDKs with a 400 that they do not retry", async () => {
    await using kit = createTestKit({ answer: () => ({ error: { code: 3, message: "bad argument" } }) });
    const chain = kit.gembatch.chain("foreign", async ({ fetch }) => {
      const response = await fetch("http://host/v1beta/models/gemini-2.5-flash:generateContent", {
        method: "POST",
        body: '{"contents":[]}',
      });
      return [response.status, ((await response.json()) as { error: { status: string } }).error.status];
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual([400, "FAILED_PRECONDITION"]);
  });

  it("gives function calls without an id the same id at every replay", async () => {
    await using kit = createTestKit({
      worker: { parkedBytes: 0 },
      answer: (prompt) =>
        prompt === "call"
          ? { response: { candidates: [{ finishReason: "STOP", content: { parts: [{ functionCall: { name: "f", args: {} } }] } }] } }
          : "ok",
    });
    const ids: unknown[] = [];
    const chain = kit.gembatch.chain("tools", async ({ models }) => {
      const called = await models.generateContent(ask("call"));
      ids.push(called.functionCalls?.[0]?.id);
      return (await models.generateContent(ask(`result for ${called.functionCalls?.[0]?.id}`))).text;
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toBe("ok");
    expect(new Set(ids).size).toBe(1);
    expect(ids[0]).toMatch(/^call_/);
  });

  it("runs a step once however often the chain is replayed", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 } });
    let executed = 0;
    const chain = kit.gembatch.chain("steps", async ({ models, step }) => {
      const id = await step("insert", async () => (executed += 1));
      await models.generateContent(ask("a"));
      await models.generateContent(ask("b"));
      await step("fails", () => {
        throw new RangeError("no");
      }).catch(() => "caught");
      return id;
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toBe(1);
    expect(executed).toBe(1);
  });

  it("does not send prompts that it does not wait for", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("floating", async ({ models }) => {
      void models.generateContent(ask("never read"));
      return "done";
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toBe("done");
    expect(kit.provider.jobs).toHaveLength(0);
    expect((await run.get()).notes.join()).toContain("not sent");
  });
});

describe("a handler", () => {
  it("gets the response and its params; what it submits lands with it", async () => {
    await using kit = createTestKit();
    const seen: unknown[] = [];
    const output = kit.gembatch.handler("output", (response) => {
      seen.push(response.text);
      return response.text;
    });
    const second = kit.gembatch.handler("second", async (response, params: { topic: string }) => {
      seen.push([response.text, params]);
      await kit.gembatch.submit(
        { contents: [{ role: "user", parts: [{ text: `${params.topic}: ${response.text}` }] }] },
        "models/gemini-2.5-flash",
        output,
      );
      await kit.gembatch.submit({ contents: [{ role: "user", parts: [{ text: `again` }] }] }, "gemini-2.5-flash", output);
    });
    const id = await kit.gembatch.submit(
      { contents: [{ role: "user", parts: [{ text: "hi" }] }] },
      "publishers/google/models/gemini-2.5-flash",
      second,
      { topic: "tides" },
    );
    await kit.run();
    expect(seen).toEqual([["<hi>", { topic: "tides" }], "<tides: <hi>>", "<again>"]);
    expect((await kit.gembatch.runs.get(id))!.state).toBe("completed");
    expect(kit.provider.jobs.map(({ lane, rows }) => [lane.model, rows.length])).toEqual([
      ["gemini-2.5-flash", 1],
      ["gemini-2.5-flash", 2],
    ]);
  });

  it("that throws submits nothing", async () => {
    await using kit = createTestKit();
    const output = kit.gembatch.handler("output", () => {});
    const second = kit.gembatch.handler("second", async () => {
      await kit.gembatch.submit({ contents: [{ parts: [{ text: "x" }] }] }, "gemini-2.5-flash", output);
      throw new Error("after submit");
    });
    const id = await kit.gembatch.submit({ contents: [{ parts: [{ text: "hi" }] }] }, "gemini-2.5-flash", second);
    await kit.run();
    expect((await kit.gembatch.runs.get(id))!.error).toMatchObject({ message: "after submit" });
    expect(kit.provider.jobs).toHaveLength(1);
  });

  it("is not called when its request fails; the run says why", async () => {
    await using kit = createTestKit({ answer: () => ({ error: { code: 3, message: "bad" } }) });
    const handler = kit.gembatch.handler("never", () => {
      throw new Error("called");
    });
    const id = await kit.gembatch.submit({ contents: [{ parts: [{ text: "hi" }] }] }, "gemini-2.5-flash", handler);
    await kit.run();
    expect((await kit.gembatch.runs.get(id))!).toMatchObject({ state: "failed", error: { code: "request_failed" } });
  });

  it("that asks for its own prompt gets the answer that it has, also after it has waited", async () => {
    for (const parkedBytes of [0, 1_000_000]) {
      await using kit = createTestKit({ worker: { parkedBytes } });
      const first = { contents: [{ parts: [{ text: "hi" }], role: "user" }] };
      const handler = kit.gembatch.handler("again", async (response, _params: undefined, { models }) => {
        const other = await models.generateContent(ask("other"));
        const same = await models.generateContent({ model: "gemini-2.5-flash", ...first });
        return [response.text, other.text, same.text];
      });
      const id = await kit.gembatch.submit(first, "gemini-2.5-flash", handler);
      await kit.run();
      expect((await kit.gembatch.runs.get(id))!.output).toEqual(["<hi>", "<other>", "<hi>"]);
      expect(kit.provider.jobs.map(({ rows }) => rows.length)).toEqual([1, 1]);
    }
  });

  it("may await further prompts like a chain, and embeds", async () => {
    await using kit = createTestKit();
    const both = kit.gembatch.handler(
      "both",
      async (response, _params, { models }) => (await models.generateContent(ask(`more ${response.text}`))).text,
    );
    const embedded = kit.gembatch.handler<unknown, EmbedContentResponse>("embedded", (response) => response.embeddings?.[0]?.values);
    const a = await kit.gembatch.submit({ contents: [{ parts: [{ text: "hi" }] }] }, "gemini-2.5-flash", both);
    const b = await kit.gembatch.submit({ content: { parts: [{ text: "four" }] } }, "gemini-embedding-001", embedded);
    await kit.run();
    expect((await kit.gembatch.runs.get(a))!.output).toBe("<more <hi>>");
    expect((await kit.gembatch.runs.get(b))!.output).toEqual([4, 1, 0]);
  });
});

describe("starting", () => {
  it("is idempotent by id and refuses another input under it", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain(
      "c",
      async ({ models }, input: { n: number }) => (await models.generateContent(ask(String(input.n)))).text,
    );
    await chain.start({ n: 1 }, { id: "a" });
    await chain.start({ n: 1 }, { id: "a" });
    await expect(chain.start({ n: 2 }, { id: "a" })).rejects.toMatchObject({ code: "run_conflict" });
    await kit.run();
    await chain.start({ n: 1 }, { id: "a" });
    await kit.run();
    expect(kit.provider.jobs).toHaveLength(1);
  });

  it("maps over any number of inputs, in order or as they end, and counts", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("m", async ({ models }, n: number) => {
      if (n === 3) throw new Error("three");
      return (await models.generateContent(ask(String(n)))).text;
    });
    async function* inputs() {
      for (let n = 0; n < 1_234; n += 1) yield n;
    }
    await chain.startMany(inputs(), { id: (n) => `n-${n}` });
    await kit.run();
    let last;
    const items = [];
    for await (const item of chain.map(inputs(), { id: (n) => `n-${n}`, onProgress: (progress) => (last = progress) })) items.push(item);
    expect(items).toHaveLength(1_234);
    expect(items.map(({ index }) => index)).toEqual(items.map((_, index) => index));
    expect(items[3]).toMatchObject({ status: "failed", error: { message: "three" } });
    expect(items[7]).toMatchObject({ status: "completed", output: "<7>", id: "n-7" });
    expect(last).toEqual({ started: 1_234, done: 1_234, failed: 1, complete: true });
    const ended = [];
    for await (const { index } of chain.map(inputs(), { id: (n) => `n-${n}`, order: "completion" })) ended.push(index);
    expect(ended.toSorted((a, b) => a - b)).toEqual(items.map(({ index }) => index));
    expect(kit.provider.jobs).toHaveLength(1);
  });

  it("inside a turn happens once, with the turn", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 } });
    const child = kit.gembatch.chain("fire", async ({ models }, n: number) => (await models.generateContent(ask(`child ${n}`))).text);
    const parent = kit.gembatch.chain("starter", async ({ models }) => {
      const handle = await child.start(1);
      await models.generateContent(ask("x"));
      await models.generateContent(ask("y"));
      return handle.id;
    });
    const run = await parent.start(undefined);
    await kit.run();
    const id = await run.result();
    expect((await kit.gembatch.runs.get(id))!.output).toBe("<child 1>");
    expect((await kit.gembatch.runs.list({ chain: "fire" })).items).toHaveLength(1);
  });
});

describe("responses", () => {
  it("are official objects", async () => {
    const { GenerateContentResponse } = await import("@google/genai");
    await using kit = createTestKit({ answer: () => ({ response: textResponse("hi") }) });
    const chain = kit.gembatch.chain(
      "official",
      async ({ models }) => (await models.generateContent(ask("x"))) instanceof GenerateContentResponse,
    );
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toBe(true);
  });
});
