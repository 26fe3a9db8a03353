import { describe, expect, it } from "vitest";
import { Gembatch, type Logger } from "../../src/index.ts";
import { gemini } from "../../src/gemini.ts";
import { startEmulator, type EmulatorFaults } from "../../src/emulator.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { createTestKit } from "../../src/testing.ts";

/** Nothing of this may ever be in a log or in the message of an error. */
const key = "AIzaSyNOT-A-REAL-KEY-0123456789abcdef012";
const prompt = "Dear diary, the treasure is buried under the third apple tree behind the mill.";
const secrets = [key, "third apple tree", "upload_id=", "X-Goog-Signature="];

/** Everything that is said, at every level, as text. */
function recorder(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const write = (message: string, fields?: Record<string, unknown>) => void lines.push(`${message} ${JSON.stringify(fields ?? {})}`);
  return { lines, logger: { debug: write, info: write, warn: write, error: write } };
}

function expectClean(texts: readonly string[]): void {
  for (const text of texts) for (const secret of secrets) expect(text).not.toContain(secret);
}

/** What a run, its requests and its batches say went wrong. */
async function storedErrors(gembatch: Gembatch): Promise<string[]> {
  const [runs, requests, batches] = await Promise.all([gembatch.runs.list(), gembatch.requests.list(), gembatch.batches.list()]);
  return [...runs.items, ...requests.items, ...batches.items].flatMap(({ error }) =>
    error ? [error.message, error.stack ?? "", error.hint ?? ""] : [],
  );
}

describe("logs and errors", () => {
  const quoting = `Invalid value at 'batch.input_config': "${prompt}" (see https://storage.googleapis.com/x?X-Goog-Signature=abcdef0123456789&key=${key})`;

  it.each([
    ["createJob", "refused"],
    ["createJob", "throttled"],
    ["createJob", "ambiguous"],
    ["createJob", "denied"],
    ["stageInput", "unavailable"],
    ["findJobs", "unavailable"],
    ["getJobs", "unavailable"],
    ["readResults", "unavailable"],
    ["deleteJob", "unavailable"],
    ["discardInput", "unavailable"],
    ["callNow", "refused"],
    ["callNow", "ambiguous"],
  ] as const)("keep prompts, keys and signed URLs to themselves when %s fails as %s", async (call, failure) => {
    const { logger, lines } = recorder();
    const kit = createTestKit({ logger, ...(call === "callNow" ? { tier: "standard" as const } : {}) });
    await using _ = kit;
    if (call === "findJobs") kit.provider.failNext("createJob", "ambiguous", { message: quoting });
    for (let n = 0; n < 2; n += 1) kit.provider.failNext(call, failure, { message: quoting });
    const chain = kit.gembatch.chain("diary", async ({ models, log }) => {
      log.info("asking");
      return (await models.generateContent({ model: "gemini-2.5-flash", contents: prompt })).text;
    });
    await chain.start(undefined, { id: "r" });
    await kit.run("2d");
    await kit.advance("1h");
    expect(lines.length).toBeGreaterThan(0);
    expectClean([...lines, ...(await storedErrors(kit.gembatch))]);
  });

  it("keep them when rows fail, jobs fail and code changes its mind", async () => {
    const { logger, lines } = recorder();
    let n = 0;
    const kit = createTestKit({
      logger,
      retry: { maxAttempts: 2 },
      // Every turn is a replay: that is where code that changes its mind is found out.
      worker: { parkedBytes: 0 },
      answer: (text) => (text.includes("fail") ? { error: { code: 3, message: quoting } } : text.includes("answered") ? "fine" : undefined),
    });
    await using _ = kit;
    const chain = kit.gembatch.chain("diary", async ({ models }, what: string) => {
      n += 1;
      const ask = async (text: string) => models.generateContent({ model: "gemini-2.5-flash", contents: text });
      if (what === "changes") {
        await ask(`${prompt} answered ${n}`);
        await ask(`${prompt} answered again`);
      } else await ask(`${prompt} ${what}`);
    });
    for (const what of ["fail", "missing", "changes"]) await chain.start(what, { id: what });
    await kit.run("2d");
    expect((await kit.gembatch.runs.get("changes"))!.state).toBe("held");
    expectClean([...lines, ...(await storedErrors(kit.gembatch))]);
  });

  it.each([
    ["refuseCreate", { refuseCreate: { times: 1, message: quoting } }],
    ["freeTier", { freeTier: { times: 1 } }],
    ["htmlError", { htmlError: { times: 3 } }],
    ["connectionLost", { connectionLost: { times: 3 } }],
    ["createAnswerLost", { createAnswerLost: { times: 1 } }],
    ["uploadCut", { uploadCut: { times: 1 } }],
    ["badLine", { badLine: { times: 1 }, rowError: { times: 1 } }],
    ["downloadCut", { downloadCut: { times: 1 } }],
  ] as [string, EmulatorFaults][])("keep them over HTTP under the fault %s", async (_name, faults) => {
    const { logger, lines } = recorder();
    await using emulator = await startEmulator({ turnaround: 50, faults });
    const store = new SqliteStore({ path: ":memory:" });
    await using gembatch = new Gembatch({
      store,
      logger,
      provider: gemini({ apiKey: key, baseUrl: emulator.url }),
      retry: { initialDelay: "20ms", maxDelay: "50ms" },
      polling: { minInterval: "50ms", maxInterval: "100ms" },
      launch: { settle: "200ms" },
      batching: { debounce: "20ms" },
    });
    const chain = gembatch.chain(
      "diary",
      async ({ models }, n: number) => (await models.generateContent({ model: "gemini-2.5-flash", contents: `${prompt} ${n}` })).text,
    );
    const results = await Promise.allSettled([1, 2, 3].map(async (n) => (await chain.start(n)).result()));
    const thrown = results.flatMap((result) =>
      result.status === "rejected" ? [String(result.reason), String((result.reason as Error).stack)] : [],
    );
    expectClean([...lines, ...thrown, ...(await storedErrors(gembatch))]);
  });

  it("keep a wrong key to themselves", async () => {
    const { logger, lines } = recorder();
    await using emulator = await startEmulator({ turnaround: 50, apiKey: "another" });
    await using gembatch = new Gembatch({
      store: new SqliteStore({ path: ":memory:" }),
      logger,
      provider: gemini({ apiKey: key, baseUrl: emulator.url }),
      batching: { debounce: "20ms" },
    });
    const chain = gembatch.chain(
      "diary",
      async ({ models }) => (await models.generateContent({ model: "gemini-2.5-flash", contents: prompt })).text,
    );
    const run = await chain.start(undefined);
    const error = await run.result().then(
      () => undefined,
      (reason: unknown) => reason as Error,
    );
    expect(error).toMatchObject({ code: "provider_auth" });
    expectClean([...lines, String(error), String(error?.stack), String(error?.cause)]);
  });
});
