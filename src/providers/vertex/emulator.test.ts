/** The conformance suite against the emulator, in virtual time: both modes, on the unmodified official clients. */
import { startControlled } from "../../../test/support/provider-control.ts";
import { BigQuery } from "@google-cloud/bigquery";
import { PassThroughClient } from "google-auth-library";
import { describe, expect, it, vi } from "vitest";
import type { JobInput, ResultRow } from "../../core/provider.ts";
import { type EmulatorFaults, type EmulatorOptions } from "../../emulator.ts";
import { type ProviderControl, testProvider } from "../../testing/provider-conformance.ts";
import type { VertexOptions } from "./options.ts";
import { vertex } from "./provider.ts";

const modes = {
  storage: { bucket: "gs://bucket/batches" },
  bigquery: { dataset: "bq://p.batches" },
  both: { bucket: "bucket", dataset: "batches" },
};
type Mode = keyof typeof modes;
const noCredentials = new PassThroughClient();

function onEmulator(url: string, mode: Mode, options: VertexOptions = {}) {
  return vertex({
    project: "p",
    location: "global",
    baseUrl: url,
    storageEndpoint: url,
    bigqueryEndpoint: url,
    ...modes[mode],
    ...options,
  });
}

for (const mode of ["storage", "bigquery"] as const) {
  testProvider(
    { describe, it, expect },
    {
      name: `vertex on the emulator, ${mode}`,
      models: { generateContent: "gemini-2.5-flash", ...(mode === "storage" ? { embedContent: "gemini-embedding-001" } : {}) },
      async create() {
        const { url, control, stop } = await start({}, mode);
        // Its own retries would hide what it meets, and take real seconds.
        const bigquery = new BigQuery({ projectId: "p", apiEndpoint: url, retryOptions: { autoRetry: false }, authClient: noCredentials });
        return { provider: onEmulator(url, mode, mode === "bigquery" ? { bigquery } : {}), control, dispose: stop };
      },
    },
  );
}

describe("vertex on an emulator with the faults that users met", () => {
  const { signal } = new AbortController();
  const input: JobInput = {
    ...{
      token: "gb-1",
      lane: { provider: "vertex", model: "gemini-2.5-flash", method: "generateContent" },
      requestCount: 40,
      bytes: 4_000,
    },
    rows: async function* () {
      for (let i = 0; i < 40; i += 1) yield { key: `r${i}.1`, body: `{"contents":[{"role":"user","parts":[{"text":"row ${i}"}]}]}` };
    },
  };
  const run = async (faults: EmulatorFaults, mode: Mode, given: Partial<JobInput> = {}) => {
    const { url, control, stop } = await start({ faults }, mode);
    const provider = onEmulator(url, mode);
    const asked = { ...input, ...given };
    try {
      const { name } = await provider.createJob(asked, await provider.stageInput(asked, signal), { signal, beforeSend: async () => true });
      await control.finishJobs();
      const [job] = await provider.getJobs([name], signal);
      const rows = job?.output === undefined ? [] : await Array.fromAsync(provider.readResults(job, asked.lane, signal));
      return { job, rows };
    } finally {
      await stop();
    }
  };

  it.each<[EmulatorFaults, Mode, { answered: number; errors?: number; problems?: number; rows?: number }]>([
    [{ shuffledRows: true }, "storage", { answered: 40 }],
    [{ missingRows: { times: 3 } }, "storage", { answered: 37, rows: 37 }],
    [{ missingKey: true }, "storage", { answered: 40 }],
    [{ missingKey: true }, "bigquery", { answered: 40 }],
    [{ missingLabels: true }, "storage", { answered: 40 }],
    [{ missingLabels: true }, "bigquery", { answered: 40 }],
    [{ missingKey: true, missingLabels: true }, "storage", { answered: 0, problems: 40 }],
    [{ nullResponse: { times: 3 } }, "storage", { answered: 37, problems: 3 }],
    [{ nullResponse: { times: 3 } }, "bigquery", { answered: 37, problems: 3 }],
    [{ rowError: { times: 3 } }, "storage", { answered: 37, errors: 3 }],
    [{ rowError: { times: 3 } }, "bigquery", { answered: 37, errors: 3 }],
    [{ badLine: { times: 3 } }, "storage", { answered: 37, problems: 3 }],
    [{ nonUtf8Line: { times: 3 } }, "storage", { answered: 37, problems: 3 }],
    [{ blankLines: { times: 3 } }, "storage", { answered: 40 }],
    [{ shards: true }, "storage", { answered: 40 }],
    [{ partialSuccess: { at: 0.5 } }, "storage", { answered: 20, rows: 20 }],
    [{ partialSuccess: { at: 0.5 } }, "bigquery", { answered: 20, rows: 20 }],
  ])("%j, %s: %j", async (faults, mode, expected) => {
    const { rows } = await run(faults, mode);
    expect(new Set(rows.filter((row) => row.response).map((row) => row.key)).size).toBe(expected.answered);
    expect(rows.filter((row) => row.error).map((row) => row.error?.code)).toEqual(Array(expected.errors ?? 0).fill(13));
    expect(rows.filter((row) => "problem" in row).length).toBe(expected.problems ?? 0);
    expect(rows.length).toBe(expected.rows ?? 40);
  });

  it("reads incremental files behind the final ones", async () => {
    const { rows } = await run({ incrementalFiles: true }, "storage");
    expect(new Set(rows.slice(0, 40).map((row) => row.key)).size).toBe(40);
    expect(rows.length).toBeGreaterThan(40);
  });

  it.each(["storage", "bigquery"] as const)("says why an import failed: %s", async (mode) => {
    const { job } = await run({ importFails: true }, mode);
    expect(job).toMatchObject({ state: "failed", error: { code: 3, message: expect.stringContaining("Failed to import data") as string } });
  });

  const rows = (requests: readonly object[]): Partial<JobInput> => ({
    token: "gb-2",
    rows: async function* () {
      for (const [i, request] of requests.entries()) yield { key: `r${i}.1`, body: JSON.stringify(request) };
    },
  });
  const keysOf = (answers: readonly ResultRow[]) => answers.map(({ key }) => String(key)).toSorted();
  const contents = [{ role: "user", parts: [{ text: "hi" }] }];
  const call = (args: object) => ({ contents: [{ role: "model", parts: [{ functionCall: { name: "f", args } }] }, ...contents] });

  it.each<[string, readonly object[]]>([
    ["an empty tool", [{ contents, tools: [{ googleSearch: {} }] }]],
    ["two types in one place", [call({ a: 1 }), call({ a: "x" })]],
  ])("%s fails in a bucket, as the lint says, and passes through a table", async (_name, requests) => {
    expect((await run({}, "storage", rows(requests))).job?.state).toBe("failed");
    const provider = vertex({ ...modes.both });
    const shapes = new Set(requests.map((request) => provider.checkRequest?.(input.lane, request as Record<string, unknown>).shape));
    expect(shapes).toEqual(new Set(["json"]));
    const passed = await run({}, "both", { ...rows(requests), lane: { ...input.lane, shape: "json" } });
    expect(keysOf(passed.rows.filter((row) => row.response))).toEqual(requests.map((_, i) => `r${i}.1`));
  });

  it.each([
    ["a bucket", { GEMBATCH_VERTEX_BUCKET: "gs://bucket/batches" }],
    ["a dataset", { GEMBATCH_VERTEX_DATASET: "batches" }],
  ])("works by the environment alone: %s", async (_name, place) => {
    const { url, control, stop } = await start({}, "storage");
    const endpoints = { GOOGLE_VERTEX_BASE_URL: url, STORAGE_EMULATOR_HOST: url, BIGQUERY_EMULATOR_HOST: url };
    for (const [name, value] of Object.entries({ ...endpoints, ...place, GOOGLE_CLOUD_PROJECT: "p" })) vi.stubEnv(name, value);
    try {
      const provider = vertex();
      const { name } = await provider.createJob(input, await provider.stageInput(input, signal), { signal, beforeSend: async () => true });
      await control.finishJobs();
      const [job] = await provider.getJobs([name], signal);
      expect(await Array.fromAsync(provider.readResults(job!, input.lane, signal))).toHaveLength(40);
      await provider.deleteJob(name, signal);
    } finally {
      vi.unstubAllEnvs();
      await stop();
    }
  });

  it("takes rows with empty settings, and without roles", async () => {
    const given = rows([
      { contents, generationConfig: {} },
      { contents: [{ parts: [{ text: "a" }] }], toolConfig: { functionCallingConfig: {} } },
    ]);
    expect((await run({}, "storage", given)).rows.filter((row) => row.response)).toHaveLength(2);
  });

  it.each<[string, object, string]>([
    [
      "publishers/anthropic/models/claude-sonnet-4-5",
      { anthropic_version: "vertex-2023-10-16", max_tokens: 50, messages: [{ role: "user", content: "hi" }] },
      "content",
    ],
    ["publishers/meta/models/llama-4-maverick-maas", { messages: [{ role: "user", content: "hi" }] }, "choices"],
  ])("carries rows of %s", async (model, request, member) => {
    for (const mode of ["storage", "bigquery"] as const) {
      const { rows: answers } = await run({}, mode, { ...rows([request, request]), lane: { ...input.lane, model } });
      expect(keysOf(answers)).toEqual(["r0.1", "r1.1"]);
      expect(answers.every((row) => Object.hasOwn(row.response as object, member))).toBe(true);
    }
  });

  it.each(["storage", "bigquery"] as const)("keeps what a cancelled job has finished: %s", async (mode) => {
    const { url, emulator, advance, stop } = await start({}, mode);
    try {
      const provider = onEmulator(url, mode);
      const { name } = await provider.createJob(input, await provider.stageInput(input, signal), { signal, beforeSend: async () => true });
      advance(45_000);
      await provider.cancelJob(name, signal);
      await emulator.idle();
      await provider.cancelJob(name, signal);
      const [job] = await provider.getJobs([name], signal);
      expect(job).toMatchObject({ state: "cancelled", output: expect.any(String) as string });
      const answers = await Array.fromAsync(provider.readResults(job!, input.lane, signal));
      expect(answers.length).toBeGreaterThan(0);
      expect(answers.length).toBeLessThan(40);
    } finally {
      await stop();
    }
  });

  it.each<[EmulatorFaults, string]>([
    [{ throttleCreate: true }, "throttled"],
    [{ refuseCreate: true }, "refused"],
    [{ serverErrorCreate: true }, "ambiguous"],
    [{ createAnswerError: true }, "ambiguous"],
    [{ createAnswerLost: true }, "ambiguous"],
    [{ connectionLost: { match: "vertex.create" } }, "ambiguous"],
    [{ htmlError: { match: "vertex.create" } }, "ambiguous"],
  ])("calls %j %s", async (faults, failure) => {
    await expect(run(faults, "storage")).rejects.toMatchObject({ failure });
  });
});

async function start(options: EmulatorOptions, mode: Mode) {
  const { emulator, control: common, advance, refuseNextCall } = await startControlled(options);
  const control: ProviderControl = {
    ...common,
    async breakNextDownload() {
      if (mode === "bigquery") emulator.faults.connectionLost = { match: "bigquery.readRows", times: 1 };
      else await common.breakNextDownload();
    },
    async expireInputs() {
      await removeInputs(emulator.url, mode);
    },
    async breakNextCall(fault) {
      if (fault === "refused") refuseNextCall();
      else if (fault === "lost") emulator.faults.directAnswerLost = { times: 1 };
      else emulator.faults.throttleAny = { times: 1 };
    },
  };
  return { url: emulator.url, emulator, control, advance, stop: () => emulator.close() };
}

/** What a lifecycle rule of the bucket, or the expiration of tables, does. */
async function removeInputs(url: string, mode: Mode): Promise<void> {
  if (mode === "bigquery") {
    const tables = `${url}/bigquery/v2/projects/p/datasets/batches/tables`;
    const list = (await (await fetch(tables)).json()) as { tables?: { tableReference: { tableId: string } }[] };
    for (const { tableReference } of list.tables ?? []) await fetch(`${tables}/${tableReference.tableId}`, { method: "DELETE" });
    return;
  }
  const objects = `${url}/storage/v1/b/bucket/o`;
  const list = (await (await fetch(objects)).json()) as { items?: { name: string }[] };
  for (const { name } of list.items ?? []) await fetch(`${objects}/${encodeURIComponent(name)}`, { method: "DELETE" });
}
