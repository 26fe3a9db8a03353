/**
 * A local Gemini Developer API and Vertex AI for tests and demos: files, batch jobs and direct calls, with every fault as a switch.
 *
 * @module
 */
export { runEmulatorCommand, type CommandIo } from "./emulator/command.ts";
export type { EmulatorFaults, Fault, FaultName, FaultRule } from "./emulator/faults.ts";
export { faultNames } from "./emulator/faults.ts";
export type {
  Ledger,
  LedgerDirectCall,
  LedgerJob,
  LedgerTier,
  LedgerTotals,
  LedgerWebhook,
  PromptCount,
  TierTotals,
} from "./emulator/ledger.ts";
export type {
  Answer,
  AnswerInfo,
  AnswerScript,
  EmulatorClock,
  EmulatorLimits,
  EmulatorOptions,
  EmulatorWebhooks,
  Turnaround,
  TurnaroundInfo,
  Upstream,
} from "./emulator/options.ts";
export { startEmulator, type Emulator } from "./emulator/server.ts";
