/** The conformance suite against the emulator, in virtual time. */
import { startControlled } from "../../../test/support/provider-control.ts";
import { describe, expect, it } from "vitest";
import type { JobInput } from "../../core/provider.ts";
import { type EmulatorFaults, type EmulatorOptions } from "../../emulator.ts";
import { type ProviderControl, testProvider } from "../../testing/provider-conformance.ts";
import { gemini } from "./provider.ts";

for (const mode of ["file", "inline"] as const) {
  testProvider(
    { describe, it, expect },
    {
      name: `gemini on the emulator, ${mode}`,
      uploads: mode === "file",
      async create() {
        const { url, control, stop } = await start({ apiKey: "k" });
        return { provider: gemini({ apiKey: "k", baseUrl: url, mode }), control, dispose: stop };
      },
    },
  );
}

describe("gemini on an emulator with the faults that users met", () => {
  const signal = new AbortController().signal;
  const input: JobInput = {
    ...{
      token: "gb-1",
      lane: { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" },
      requestCount: 40,
      bytes: 4_000,
    },
    rows: async function* () {
      for (let i = 0; i < 40; i += 1) yield { key: `r${i}`, body: `{"contents":[{"role":"user","parts":[{"text":"row ${i}"}]}]}` };
    },
  };
  const results = async (faults: EmulatorFaults, mode: "file" | "inline" = "file") => {
    const { url, control, stop } = await start({ faults });
    const provider = gemini({ apiKey: "k", baseUrl: url, mode });
    try {
      const { name } = await provider.createJob(input, await provider.stageInput(input, signal), { signal, beforeSend: async () => true });
      await control.finishJobs();
      const [job] = await provider.getJobs([name], signal);
      return await Array.fromAsync(provider.readResults(job!, input.lane, signal));
    } finally {
      await stop();
    }
  };

  it.each<[EmulatorFaults, "file" | "inline", { answered: number; errors?: number; problems?: number; rows?: number }]>([
    [{ shuffledRows: true }, "file", { answered: 40 }],
    [{ shuffledRows: true }, "inline", { answered: 40 }],
    [{ missingRows: { times: 3 } }, "file", { answered: 37, rows: 37 }],
    [{ missingMetadata: { times: 3 } }, "file", { answered: 37, problems: 3 }],
    [{ missingMetadata: { times: 3 } }, "inline", { answered: 37, problems: 3 }],
    [{ nullResponse: { times: 3 } }, "file", { answered: 37, problems: 3 }],
    [{ nullResponse: { times: 3 } }, "inline", { answered: 37, problems: 3 }],
    [{ duplicateRows: { times: 3 } }, "file", { answered: 40, rows: 43 }],
    [{ rowError: { times: 3 } }, "inline", { answered: 37, errors: 3 }],
    [{ rowErrorInStatus: { times: 3 } }, "file", { answered: 37, errors: 3 }],
    [{ badLine: { times: 3 } }, "file", { answered: 37, problems: 3 }],
    [{ nonUtf8Line: { times: 3 } }, "file", { answered: 37, problems: 3 }],
    [{ blankLines: { times: 3 } }, "file", { answered: 40 }],
    [{ megabyteLine: { times: 3 } }, "file", { answered: 40 }],
  ])("%j, %s: %j", async (faults, mode, expected) => {
    const rows = await results(faults, mode);
    expect(new Set(rows.filter((row) => row.response).map((row) => row.key)).size).toBe(expected.answered);
    expect(rows.filter((row) => row.error).map((row) => row.error?.code)).toEqual(Array(expected.errors ?? 0).fill(13));
    expect(rows.filter((row) => "problem" in row).length).toBe(expected.problems ?? 0);
    expect(rows.length).toBe(expected.rows ?? 40);
  });

  it.each<EmulatorFaults>([{ downloadCut: true }, { downloadCut: { clean: true } }, { outputFileGone: true }])(
    "does not take %j for the whole",
    async (faults) => {
      await expect(results(faults)).rejects.toMatchObject({ failure: faults.outputFileGone ? "missing" : "unavailable" });
    },
  );

  it.each<[EmulatorFaults, string]>([
    [{ throttleCreate: true }, "throttled"],
    [{ refuseCreate: true }, "refused"],
    [{ freeTier: true }, "denied"],
    [{ inputFileGone: true }, "missing"],
    [{ serverErrorCreate: true }, "ambiguous"],
    [{ createAnswerError: true }, "ambiguous"],
    [{ createAnswerLost: true }, "ambiguous"],
    [{ connectionLost: { match: "batches.create" } }, "ambiguous"],
    [{ htmlError: { match: "batches.create" } }, "ambiguous"],
    [{ uploadCut: true }, "unavailable"],
    [{ throttleAny: true }, "throttled"],
  ])("calls %j %s", async (faults, failure) => {
    await expect(results(faults)).rejects.toMatchObject({ failure });
  });
});

async function start(options: EmulatorOptions) {
  const { emulator, control: common, advance, refuseNextCall } = await startControlled(options);
  const control: ProviderControl = {
    ...common,
    async expireInputs() {
      advance(49 * 3_600_000);
    },
    async breakNextCall(fault) {
      if (fault === "refused") refuseNextCall();
      else emulator.faults[fault === "lost" ? "directAnswerLost" : "flexShed"] = { times: 1 };
    },
  };
  return { url: emulator.url, control, stop: () => emulator.close() };
}
