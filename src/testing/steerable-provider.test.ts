import { describe, expect, it } from "vitest";
import { type JobInput, type Lane, ProviderError } from "../core/provider.ts";
import { ManualClock } from "./manual-clock.ts";
import { testProvider } from "./provider-conformance.ts";
import { type Answer, SteerableProvider, type SteerableProviderOptions } from "./steerable-provider.ts";

testProvider(
  { describe, it, expect },
  {
    name: "steerable",
    async create() {
      const clock = new ManualClock();
      let failing: Readonly<Record<string, number>> = {};
      let missing: readonly string[] = [];
      let nextEnd: "failed" | "expired" | undefined;
      const provider = new SteerableProvider({
        clock,
        answer(_prompt, { key }, { model, method }): Answer {
          if (model === "no-such-model") return { error: { code: 5, message: "not found" } };
          if (failing[key] !== undefined) return { error: { code: failing[key], message: "an internal error" } };
          if (missing.includes(key)) return undefined;
          return method === "embedContent" ? { response: { embedding: { values: [1] } } } : "ok";
        },
        onJob(job) {
          if (nextEnd) job.end = nextEnd;
          nextEnd = undefined;
        },
      });
      const faults = { lost: "ambiguous", throttled: "throttled", refused: "refused" } as const;
      return {
        provider,
        dispose: async () => {},
        control: {
          countJobs: async () => provider.jobs.filter((job) => !job.deleted).length,
          finishJobs: async () => clock.advance(60_000),
          breakRows: async (rows) => void ({ failing, missing } = rows),
          endNextJob: async (state) => void (nextEnd = state),
          breakNextCreate: async (fault) => provider.failNext("createJob", faults[fault], { when: fault === "lost" ? "after" : "before" }),
          breakNextDownload: async () => provider.failNext("readResults", "unavailable", { when: "after" }),
          expireInputs: async () => provider.expireInputs(),
          countCalls: async () => provider.directCalls.filter(({ lane }) => lane.model !== "no-such-model").length,
          breakNextCall: async (fault) => provider.failNext("callNow", faults[fault], { when: fault === "lost" ? "after" : "before" }),
        },
      };
    },
  },
);

describe("the steerable provider", () => {
  const lane: Lane = { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" };
  const signal = new AbortController().signal;
  const body = (text: string) => JSON.stringify({ contents: [{ parts: [{ text }] }] });
  const input: JobInput = {
    ...{ token: "t", lane, requestCount: 4, bytes: 400 },
    rows: async function* () {
      for (let i = 0; i < 4; i += 1) yield { key: `r${i}`, body: body(`p${i}`) };
    },
  };
  const setUp = async (options: Omit<SteerableProviderOptions, "clock"> = {}) => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock, ...options });
    const { name } = await provider.createJob(input, await provider.stageInput(input), { beforeSend: async () => true });
    const stateOf = async () => (await provider.getJobs([name]))[0]?.state;
    const keys = async () => {
      const [job] = await provider.getJobs([name]);
      return job?.output === undefined ? undefined : (await Array.fromAsync(provider.readResults(job))).map((row) => row.key);
    };
    return { clock, provider, name, job: provider.jobs[0]!, stateOf, keys };
  };

  it("has jobs that run for ever, until they are cancelled", async () => {
    const { clock, provider, name, stateOf } = await setUp({ onJob: (job) => (job.stuck = true) });
    await clock.advance(1e10);
    expect(await stateOf()).toBe("running");
    await provider.cancelJob(name);
    expect(await stateOf()).toBe("cancelled");
  });

  it("has jobs that do not mind being cancelled", async () => {
    const { clock, provider, name, stateOf } = await setUp({ onJob: (job) => (job.ignoreCancel = true) });
    await provider.cancelJob(name);
    expect(await stateOf()).toBe("running");
    await clock.advance(60_000);
    expect(await stateOf()).toBe("succeeded");
  });

  it.each(["cancelled", "expired", "failed"] as const)("has jobs that are %s with what was done", async (end) => {
    const { clock, job, stateOf, keys } = await setUp({ onJob: (made) => (made.end = end) });
    expect(await keys()).toBe(undefined);
    await clock.advance(60_000);
    expect([await stateOf(), await keys()]).toEqual([end, undefined]);
    job.partialRows = 2;
    expect([await stateOf(), await keys()]).toEqual([end, ["r0", "r1"]]);
  });

  it("hides jobs from lists until an instant, never from a look at them", async () => {
    const { clock, provider, job, stateOf } = await setUp();
    job.hiddenUntil = clock.now() + 1_000;
    expect(await provider.findJobs("t")).toEqual([]);
    expect(await stateOf()).toBe("running");
    await clock.advance(1_000);
    expect((await provider.findJobs("t")).map(({ name }) => name)).toEqual([job.name]);
  });

  it("has outputs with rows that are missing, repeated and nobody's", async () => {
    const { clock, job, keys } = await setUp();
    job.output = ([first, second]) => [second!, first!, first!, { key: "r99.1", response: {} }];
    await clock.advance(60_000);
    expect(await keys()).toEqual(["r1", "r0", "r0", "r99.1"]);
  });

  it("answers direct calls in the time of the clock, and keeps a ledger", async () => {
    const { clock, provider } = await setUp({ callMs: ({ tier }) => (tier === "flex" ? 60_000 : 0) });
    const at = clock.now();
    const call = { lane, body: body("hi"), tier: "flex" as const, signal };
    let answer: unknown;
    const asked = provider.callNow(call).then((given) => (answer = given));
    await clock.advance(59_999);
    expect(answer).toBe(undefined);
    await clock.advance(1);
    await asked;
    expect(answer).toMatchObject({ candidates: [{ content: { parts: [{ text: "<hi>" }] } }] });
    await provider.callNow({ ...call, tier: "standard" });
    expect(provider.directCalls).toEqual([
      { lane, body: call.body, tier: "flex", at },
      { lane, body: call.body, tier: "standard", at: at + 60_000 },
    ]);
    expect(provider.calls.filter((name) => name === "callNow")).toHaveLength(2);
  });

  it("gives up direct calls when they are aborted, and has been asked", async () => {
    const { provider } = await setUp({ callMs: 1_000 });
    const controller = new AbortController();
    const asked = provider.callNow({ lane, body: body("hi"), tier: "flex", signal: controller.signal });
    controller.abort();
    await expect(asked).rejects.toMatchObject({ failure: "ambiguous" });
    expect(provider.directCalls).toHaveLength(1);
  });

  it.each([
    [8, "throttled"],
    [14, "throttled"],
    [13, "ambiguous"],
    [3, "refused"],
    [undefined, "ambiguous"],
  ])("fails direct calls of code %s as %s", async (code, failure) => {
    const { provider } = await setUp({ answer: () => (code === undefined ? undefined : { error: { code, message: "m" } }) });
    const thrown = await provider.callNow({ lane, body: body("hi"), tier: "flex", signal }).catch((error: unknown) => error);
    expect(ProviderError.is(thrown) && thrown.failure).toBe(failure);
  });
});
