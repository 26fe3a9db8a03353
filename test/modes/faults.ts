/**
 * What goes wrong at the emulator under a seed. Each seed draws its own mix, so that faults also meet one by one.
 *
 * @module
 */
import type { EmulatorFaults } from "../../src/emulator.ts";
import type { SeededRandom } from "../../src/testing/seeded-random.ts";

/** Calls of the Gemini and Vertex AI APIs, of Cloud Storage and of BigQuery. Jobs are created by calls of their own. */
const anyCall = /^(?!batches\.create|vertex\.create)/;
/** Rows are in trouble at their first attempt only: how often a row without an answer is asked again is limited. */
const firstAttempt = /\.1$/;

/** Row faults that cost another attempt each. */
export const rowFaults = [
  "missingRows",
  "nullResponse",
  "rowError",
  "rowErrorInStatus",
  "badLine",
  "nonUtf8Line",
  "missingMetadata",
] as const;
/** Faults after which the rows of a whole job may be asked again. */
export const outputFaults = ["outputFileGone", "outputMissing"] as const;

/**
 * Faults that no promise is broken by: creates whose answer is lost, lists that lag less than the settle window, calls that fail and are made again, jobs whose output is late. Nothing is asked
 * twice for them.
 */
export function drawCallFaults(random: SeededRandom): EmulatorFaults {
  const often = rate(random, 0.6);
  return {
    createAnswerLost: often(0.3),
    createAnswerError: often(0.2),
    serverErrorCreate: often(0.2),
    throttleCreate: often(0.2),
    listLag: { ...often(0.7), ms: 100_000 },
    // A job that was cancelled is looked at once more after a minute.
    lateOutputFile: { ...often(0.3), ms: 50_000 },
    throttleAny: { ...often(0.05), match: anyCall },
    serverError: { ...often(0.05), match: anyCall },
    htmlError: { ...often(0.03), match: anyCall },
    connectionLost: { ...often(0.05), match: anyCall },
    uploadCut: often(0.2),
    // One that ends as if it were whole is read once more, and only once.
    downloadCut: random.next() < 0.5 ? { ...often(0.4), at: random.next() } : { times: 1, clean: true, at: random.next() },
    shuffledRows: often(0.8),
    duplicateRows: often(0.2),
    unknownRows: often(0.2),
    blankLines: often(0.2),
    shards: often(0.5),
    incrementalFiles: often(0.5),
  };
}

/** All of these, and faults for which prompts must be asked again. */
export function drawAllFaults(random: SeededRandom): EmulatorFaults {
  const some = rate(random, 0.7);
  const row = () => ({ ...some(0.15), match: firstAttempt });
  const rows = Object.fromEntries(rowFaults.map((name) => [name, row()]));
  return { ...drawCallFaults(random), ...rows, inputFileGone: { ...some(0.3), times: 3 }, ...drawEnds(random) };
}

/** Jobs that end early; or one that succeeds without all of its rows, which they are asked again for twice only. */
function drawEnds(random: SeededRandom): EmulatorFaults {
  const end = { rate: 0.4, times: 1 };
  const kinds: EmulatorFaults[] = [
    { jobFails: end, jobCancelledOutside: { ...end, times: 2 } },
    { jobExpires: end, importFails: end, jobCancelledOutside: end },
    { partialSuccess: { times: 1, at: 0.5 } },
    { outputFileGone: { times: 1 } },
    { outputMissing: { times: 1 } },
  ];
  return kinds[Math.floor(random.next() * kinds.length)] ?? {};
}

/** A fault that strikes this often, in this part of the seeds. */
function rate(random: SeededRandom, part: number): (most: number) => { rate: number } {
  return (most) => ({ rate: random.next() < part ? most * random.next() : 0 });
}
