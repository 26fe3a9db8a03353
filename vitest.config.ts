import { availableParallelism } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

const source = join(import.meta.dirname, "src");

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
    exclude: ["node_modules/**", "dist/**", "out/**", "bench/**"],
    globalSetup: ["test/support/global-setup.ts"],
    pool: "forks",
    maxWorkers: Math.min(2, availableParallelism()),
    testTimeout: 20_000,
    hookTimeout: 20_000,
    reporters: ["default", "json"],
    outputFile: { json: "out/tests.json" },
  },
});
