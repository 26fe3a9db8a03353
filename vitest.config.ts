import { availableParallelism } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

const source = join(import.meta.dirname, "src");

// For the processes that run test files, and those that tests start: a program of ours starts in a third of the time when its code is compiled already.
process.env["NODE_COMPILE_CACHE"] ??= join(import.meta.dirname, "out", "compile-cache");

/**
 * Files that take a quarter of a minute and more. They are begun first, the longest before the others: otherwise one of the workers ends with such a file alone. Those over the emulator of Firestore stand apart, for two of
 * them at a time get into each other's way.
 */
const long = [
  "src/stores/firestore/store.test.ts",
  "test/process/postgres.test.ts",
  "test/engine/crash.test.ts",
  "test/firebase/windows.test.ts",
  "test/process/workers.test.ts",
  "test/sim/sim.test.ts",
  "src/stores/firestore/edges.test.ts",
  "test/modes/simulation.test.ts",
  "test/firebase/chain.test.ts",
  "src/stores/postgres/store.test.ts",
  "test/process/kills.test.ts",
  "src/stores/firestore/limits.test.ts",
  "test/package.test.ts",
  "examples/abc/abc.test.ts",
  "src/stores/firestore/races.test.ts",
  "test/process/processes.test.ts",
  "src/stores/firestore/chains.test.ts",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      const found = long.findIndex((path) => moduleId.endsWith(`/${path}`));
      return found === -1 ? long.length : found;
    };
    // oxlint-disable-next-line unicorn/no-array-sort -- the sequencer's method, not an array's
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => place(a) - place(b));
  }
}

export default defineConfig({
  resolve: {
    // Tests and examples say "gembatch" as users do, and get the source.
    alias: [
      { find: /^gembatch$/, replacement: join(source, "index.ts") },
      { find: /^gembatch\/(?!package\.json$)(.+)$/, replacement: join(source, "$1.ts") },
    ],
  },
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts", "examples/**/*.test.ts"],
    exclude: ["node_modules/**", "dist/**", "out/**", "bench/**", "test/functions-emulator/**"],
    globalSetup: ["test/support/global-setup.ts"],
    pool: "forks",
    sequence: { sequencer: LongestFirst },
    // One more than processors: many files wait for a database or for other processes most of their time.
    maxWorkers: Math.min(3, availableParallelism() + 1),
    testTimeout: 20_000,
    hookTimeout: 20_000,
    reporters: ["default", "json"],
    outputFile: { json: "out/tests.json" },
  },
});
