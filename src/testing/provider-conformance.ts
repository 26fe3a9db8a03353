/**
 * What every provider must do, as tests that run in any test framework: the promises of the Provider port, checked against a
 * service or an emulator that can be steered.
 *
 * @module
 */
import {
  type BatchRow,
  type JobInput,
  type Lane,
  type Provider,
  ProviderError,
  type ProviderJob,
  type ResultRow,
} from "../core/provider.ts";

/** The parts of a test framework that are used; those of vitest, jest and `node:test` with an `expect` fit. */
export interface TestFunctions {
  describe: (name: string, body: () => void) => unknown;
  it: (name: string, body: () => Promise<void>) => unknown;
  expect: (value: unknown) => { toBe(expected: unknown): unknown; toEqual(expected: unknown): unknown };
}

/** The hand on the service behind the provider. */
export interface ProviderControl {
  /** How many jobs the service holds, in whatever state. */
  countJobs(): Promise<number>;
  /** Lets every unfinished job come to its end: an answer to each row, unless it was told otherwise before its creation. */
  finishJobs(): Promise<void>;
  /** In jobs that are created from now on, these rows fail with this gRPC code, and these get no line at all. */
  breakRows(rows: { failing: Readonly<Record<string, number>>; missing: readonly string[] }): Promise<void>;
  /** The next job that is created comes to this end. */
  endNextJob(state: "failed" | "expired"): Promise<void>;
  /** What the next attempt to create a job meets. `lost`: the job is made, its answer is not received. */
  breakNextCreate(fault: "lost" | "throttled" | "refused"): Promise<void>;
  /** The connection of the next download breaks in the middle of its body. */
  breakNextDownload(): Promise<void>;
  /** Every uploaded input is gone, as after its time. */
  expireInputs(): Promise<void>;
  /** How many direct calls the service has answered, whether the answer was received or not. */
  countCalls(): Promise<number>;
  /** What the next direct call meets. `lost`: it is answered, the answer is not received. */
  breakNextCall(fault: "lost" | "throttled" | "refused"): Promise<void>;
}

export interface ProviderSetup {
  /** Shown in the name of the suite. */
  name: string;
  /** A fresh provider on a fresh service. */
  create(): Promise<{ provider: Provider; control: ProviderControl; dispose(): Promise<void> }>;
  /** A model for each method that the provider has. Default: `gemini-2.5-flash` and `gemini-embedding-001`. */
  models?: { generateContent: string; embedContent?: string };
  /** Whether inputs are uploaded, and so can expire. Default true. */
  uploads?: boolean;
  /** A name that looks like a model and is none. Default `no-such-model`. */
  missingModel?: string;
}

type Context = Awaited<ReturnType<ProviderSetup["create"]>>;
const open = (): AbortSignal => new AbortController().signal;
const sending = () => ({ signal: open(), beforeSend: async () => true });

/** Registers the suite. */
export function testProvider({ describe, it, expect }: TestFunctions, setup: ProviderSetup): void {
  const models = setup.models ?? { generateContent: "gemini-2.5-flash", embedContent: "gemini-embedding-001" };
  const model = models.generateContent;

  const check = (
    name: string,
    body: (context: Context, lane: Lane) => Promise<void>,
    method: keyof typeof models = "generateContent",
  ): void => {
    it(name, async () => {
      const context = await setup.create();
      try {
        await body(context, { provider: context.provider.name, model: context.provider.normalizeModel(models[method]!), method });
      } finally {
        await context.provider.close();
        await context.dispose();
      }
    });
  };
  const fails = async (call: Promise<unknown>): Promise<string> => {
    try {
      await call;
    } catch (thrown) {
      if (ProviderError.is(thrown)) return thrown.failure;
      throw thrown;
    }
    return "nothing";
  };
  const launch = async ({ provider }: Context, input: JobInput): Promise<ProviderJob> =>
    provider.createJob(input, await provider.stageInput(input, open()), sending());
  const read = async ({ provider }: Context, name: string, lane: Lane): Promise<ResultRow[]> => {
    const [job] = await provider.getJobs([name], open());
    expect(job?.state).toBe("succeeded");
    return Array.fromAsync(provider.readResults(job!, lane, open()));
  };

  describe(`provider: ${setup.name}`, () => {
    check("has a name and limits that allow something", async ({ provider }) => {
      const { maxRequests, maxBytes, maxRequestBytes, maxJobs, enqueuedTokens } = provider.limits;
      expect(provider.name.length > 0).toBe(true);
      expect([maxRequests, maxBytes, maxRequestBytes, maxJobs, enqueuedTokens(model) ?? 1].every((limit) => limit > 0)).toBe(true);
    });

    check("has one short form for a model, however it is written", async ({ provider }) => {
      const short = provider.normalizeModel(model);
      for (const form of [short, ` ${short} `, `models/${short}`, `publishers/google/models/${short}`])
        expect(provider.normalizeModel(form)).toBe(short);
    });

    check("gives the SDK's models on the transport it is handed", async ({ provider }) => {
      const urls: string[] = [];
      const sdk = provider.createModels(async (url) => {
        urls.push(String(url));
        return Response.json({
          candidates: [{ content: { role: "model", parts: [{ text: "from the transport" }] }, finishReason: "STOP" }],
        });
      });
      const response = await sdk.generateContent({ model, contents: "hello" });
      expect(response.text).toBe("from the transport");
      expect(urls.map((url) => new URL(url).pathname.endsWith(`${model}:generateContent`))).toEqual([true]);
    });

    for (const method of Object.keys(models) as (keyof typeof models)[]) {
      check(
        `brings every row of ${method} back under its key`,
        async (context, lane) => {
          const input = makeInput(lane, "t-rows", 25);
          const created = await launch(context, input);
          expect(["pending", "running"].includes(created.state)).toBe(true);
          expect((await context.provider.getJobs([created.name], open())).map((job) => job.name)).toEqual([created.name]);
          await context.control.finishJobs();
          const rows = await read(context, created.name, lane);
          expect(rows.map((row) => String(row.key)).toSorted()).toEqual(keysOf(25));
          expect(rows.filter((row) => typeof row.response !== "object" || row.response === null)).toEqual([]);
        },
        method,
      );
    }

    check("gives failed rows as errors, and makes up none for rows without a line", async (context, lane) => {
      await context.control.breakRows({ failing: { r2: 13 }, missing: ["r4"] });
      const { name } = await launch(context, makeInput(lane, "t-errors", 5));
      await context.control.finishJobs();
      const rows = await read(context, name, lane);
      expect(rows.map((row) => String(row.key)).toSorted()).toEqual(["r0", "r1", "r2", "r3"]);
      const failed = rows.filter((row) => row.error);
      expect(failed.map((row) => [row.key, row.error?.code])).toEqual([["r2", 13]]);
    });

    check("carries thousands of rows", async (context, lane) => {
      const { name } = await launch(context, makeInput(lane, "t-many", 3_000));
      await context.control.finishJobs();
      const rows = await read(context, name, lane);
      expect(new Set(rows.map((row) => row.key)).size).toBe(3_000);
    });

    check("reads many jobs at once, and leaves out only those that do not exist", async (context, lane) => {
      const names: string[] = [];
      for (let i = 0; i < 12; i += 1) names.push((await launch(context, makeInput(lane, `t-job-${i}`, 1))).name);
      await context.provider.deleteJob(names[3]!, open());
      const left = names.filter((name) => name !== names[3]);
      expect((await context.provider.getJobs(names, open())).map((job) => job.name).toSorted()).toEqual(left.toSorted());
      await context.control.finishJobs();
      const ended = await context.provider.getJobs(left, open());
      expect(ended.every((job) => job.state === "succeeded" && job.output !== undefined)).toBe(true);
    });

    check("finds jobs by their exact token, oldest first", async (context, lane) => {
      const first = await launch(context, makeInput(lane, "t-find", 1));
      await launch(context, makeInput(lane, "t-find-not", 1));
      const second = await launch(context, makeInput(lane, "t-find", 1));
      const found = await context.provider.findJobs("t-find", 0, open());
      expect(found.map((job) => job.name).toSorted()).toEqual([first.name, second.name].toSorted());
      expect(found.every((job, i) => i === 0 || (found[i - 1]!.createdAt ?? 0) <= (job.createdAt ?? 0))).toBe(true);
      expect(await context.provider.findJobs("t-fin", 0, open())).toEqual([]);
    });

    check("finds what is left of the jobs of one token, whatever their state", async (context, lane) => {
      const names: string[] = [];
      for (let i = 0; i < 4; i += 1) names.push((await launch(context, makeInput(lane, "t-twice", 1))).name);
      const [cancelled, deleted] = names as [string, string];
      await context.provider.cancelJob(cancelled, open());
      await context.provider.deleteJob(deleted, open());
      await context.control.finishJobs();
      const found = await context.provider.findJobs("t-twice", 0, open());
      expect(found.map((job) => job.name).toSorted()).toEqual(names.filter((name) => name !== deleted).toSorted());
      expect(found.find((job) => job.name === cancelled)?.state).toBe("cancelled");
      expect(found.every((job, i) => i === 0 || (found[i - 1]!.createdAt ?? 0) <= (job.createdAt ?? 0))).toBe(true);
    });

    check("calls a lost answer ambiguous, and finds the job that was made", async (context, lane) => {
      await context.control.breakNextCreate("lost");
      expect(await fails(launch(context, makeInput(lane, "t-lost", 2)))).toBe("ambiguous");
      expect(await context.control.countJobs()).toBe(1);
      expect((await context.provider.findJobs("t-lost", 0, open())).length).toBe(1);
    });

    for (const fault of ["throttled", "refused"] as const) {
      check(`creates nothing and says so when it is ${fault}`, async (context, lane) => {
        await context.control.breakNextCreate(fault);
        expect(await fails(launch(context, makeInput(lane, "t-fault", 2)))).toBe(fault);
        expect(await context.control.countJobs()).toBe(0);
      });
    }

    check("asks once, at the last moment, whether it may still send", async (context, lane) => {
      const input = makeInput(lane, "t-may", 2);
      const staged = await context.provider.stageInput(input, open());
      let asked = 0;
      const late = async () => ((asked += 1), false);
      expect(await fails(context.provider.createJob(input, staged, { signal: open(), beforeSend: late }))).toBe("unavailable");
      expect(asked).toBe(1);
      const aborted = { signal: AbortSignal.abort(), beforeSend: async () => true };
      expect(await fails(context.provider.createJob(input, staged, aborted))).toBe("unavailable");
      expect(await context.control.countJobs()).toBe(0);
      await context.provider.createJob(input, staged, sending());
      expect(await context.control.countJobs()).toBe(1);
    });

    if (setup.uploads ?? true) {
      check("says that a staged input is missing, and takes it staged again", async (context, lane) => {
        const input = makeInput(lane, "t-expired", 2);
        const staged = await context.provider.stageInput(input, open());
        await context.control.expireInputs();
        expect(await fails(context.provider.createJob(input, staged, sending()))).toBe("missing");
        expect(await context.control.countJobs()).toBe(0);
        await launch(context, input);
        expect(await context.control.countJobs()).toBe(1);
      });
    }

    check("survives a restart between staging and creating, and discards twice", async (context, lane) => {
      const input = makeInput(lane, "t-staged", 2);
      const staged = JSON.parse(JSON.stringify(await context.provider.stageInput(input, open())));
      await context.provider.createJob(input, staged, sending());
      await context.provider.discardInput(staged, open());
      await context.provider.discardInput(staged, open());
    });

    if (setup.uploads ?? true) {
      check("throws unavailable when a download breaks, and reads it whole the next time", async (context, lane) => {
        const { name } = await launch(context, makeInput(lane, "t-cut", 200));
        await context.control.finishJobs();
        await context.control.breakNextDownload();
        expect(await fails(read(context, name, lane))).toBe("unavailable");
        expect(new Set((await read(context, name, lane)).map((row) => row.key)).size).toBe(200);
      });
    }

    check("lets a reader stop early", async (context, lane) => {
      const { name } = await launch(context, makeInput(lane, "t-early", 500));
      await context.control.finishJobs();
      const [job] = await context.provider.getJobs([name], open());
      for await (const row of context.provider.readResults(job!, lane, open())) {
        expect(typeof row.key).toBe("string");
        break;
      }
    });

    check("tells failed, expired and cancelled jobs apart", async (context, lane) => {
      const states: Record<string, string> = {};
      for (const state of ["failed", "expired", "cancelled"] as const) {
        if (state !== "cancelled") await context.control.endNextJob(state);
        const { name } = await launch(context, makeInput(lane, `t-${state}`, 1));
        states[name] = state;
        if (state === "cancelled") await context.provider.cancelJob(name, open());
        else await context.control.finishJobs();
      }
      const jobs = await context.provider.getJobs(Object.keys(states), open());
      expect(Object.fromEntries(jobs.map((job) => [job.name, job.state]))).toEqual(states);
    });

    check("deletes a job, also twice", async (context, lane) => {
      const { name } = await launch(context, makeInput(lane, "t-delete", 1));
      await context.control.finishJobs();
      const [job] = await context.provider.getJobs([name], open());
      await context.provider.deleteJob(name, open());
      await context.provider.deleteJob(name, open());
      expect(await context.provider.getJobs([name], open())).toEqual([]);
      expect(await context.provider.findJobs("t-delete", 0, open())).toEqual([]);
      expect(await fails(Array.fromAsync(context.provider.readResults(job!, lane, open())))).toBe("missing");
    });

    check("deletes a job that is running, and cancels one that does not exist: missing", async (context, lane) => {
      const { name } = await launch(context, makeInput(lane, "t-delete-running", 1));
      await context.provider.deleteJob(name, open());
      expect(await context.provider.getJobs([name], open())).toEqual([]);
      expect(await fails(context.provider.cancelJob(name, open()))).toBe("missing");
    });

    for (const method of Object.keys(models) as (keyof typeof models)[]) {
      check(
        `answers a direct call of ${method} like a row`,
        async (context, lane) => {
          const [row] = await Array.fromAsync(makeInput(lane, "t-row", 1).rows());
          const response = await context.provider.callNow({ lane, body: row!.body, tier: "standard", signal: open() });
          const { name } = await launch(context, makeInput(lane, "t-row", 1));
          await context.control.finishJobs();
          const [answer] = await read(context, name, lane);
          const kind = (value: unknown): string[] =>
            Object.keys(value as object).filter((key) => key === "candidates" || key === "embedding");
          expect(kind(response)).toEqual(kind(answer!.response));
          expect(kind(response).length).toBe(1);
          expect(await context.control.countCalls()).toBe(1);
        },
        method,
      );
    }

    check("says what became of a direct call that failed", async (context, lane) => {
      const call = { lane, body: '{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}', tier: "flex" as const, signal: open() };
      for (const fault of ["throttled", "refused"] as const) {
        await context.control.breakNextCall(fault);
        expect(await fails(context.provider.callNow(call))).toBe(fault);
      }
      const missing = context.provider.normalizeModel(setup.missingModel ?? "no-such-model");
      expect(await fails(context.provider.callNow({ ...call, lane: { ...lane, model: missing } }))).toBe("refused");
      expect(await fails(context.provider.callNow({ ...call, signal: AbortSignal.abort() }))).toBe("unavailable");
      expect(await context.control.countCalls()).toBe(0);
      await context.control.breakNextCall("lost");
      expect(await fails(context.provider.callNow(call))).toBe("ambiguous");
      expect(await context.control.countCalls()).toBe(1);
      expect(typeof (await context.provider.callNow(call))).toBe("object");
      expect(await context.control.countCalls()).toBe(2);
    });
  });
}

function keysOf(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `r${i}`).toSorted();
}

/** Rows with what breaks naive splitting and escaping: U+2028, emoji, quotes, a line break inside the text. */
function makeInput(lane: Lane, token: string, count: number): JobInput {
  const row = (i: number): BatchRow => {
    const content = { role: "user", parts: [{ text: `Row ${i}: a\u2028b\u2029c "quoted" \\ 🧵\nnext line` }] };
    return { key: `r${i}`, body: JSON.stringify(lane.method === "embedContent" ? { content } : { contents: [content] }) };
  };
  const rows = async function* (): AsyncGenerator<BatchRow> {
    for (let i = 0; i < count; i += 1) yield row(i);
  };
  let bytes = 0;
  for (let i = 0; i < count; i += 1) bytes += Buffer.byteLength(row(i).body);
  return { token, lane, requestCount: count, bytes, rows };
}
