import { startEmulator, type EmulatorOptions } from "../../src/emulator.ts";
import type { ProviderControl } from "../../src/testing/provider-conformance.ts";

/** An emulator in a time that only the suite moves, and the hand on it that the conformance suite of providers asks for, but for what differs between services. */
export async function startControlled(options: EmulatorOptions) {
  let now = Date.UTC(2026, 10, 22);
  let refusing = false;
  let failing: Readonly<Record<string, number>> = {};
  const advance = (ms: number): void => void (now += ms);
  const emulator = await startEmulator({
    ...options,
    turnaround: 60_000,
    clock: { now: () => now, sleep: async (ms) => advance(ms) },
    answer(_request, { key, job }) {
      if (job === undefined && refusing) {
        refusing = false;
        return { error: { code: 3, message: "Request contains an invalid argument." } };
      }
      return failing[key] ? { error: { code: failing[key], message: "an internal error" } } : undefined;
    },
  });
  const creates = { lost: "createAnswerLost", throttled: "throttleCreate", refused: "refuseCreate" } as const;
  const control = {
    countJobs: async () => emulator.jobs().filter((job) => !job.deleted).length,
    async finishJobs() {
      await emulator.idle();
      advance(61_000);
    },
    async breakRows(rows) {
      failing = rows.failing;
      emulator.faults.missingRows = { match: new RegExp(`^(?:${rows.missing.join("|")})$`) };
    },
    async endNextJob(state) {
      emulator.faults[state === "failed" ? "jobFails" : "jobExpires"] = { times: 1 };
    },
    async breakNextCreate(fault) {
      emulator.faults[creates[fault]] = { times: 1 };
    },
    async breakNextDownload() {
      emulator.faults.downloadCut = { times: 1 };
    },
    countCalls: async () => emulator.ledger.directCalls.filter((call) => call.billed).length,
  } satisfies Partial<ProviderControl>;
  const refuseNextCall = (): void => void (refusing = true);
  return { emulator, control, advance, refuseNextCall };
}
