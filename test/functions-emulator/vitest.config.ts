/** `npm run test:functions`: needs the Firebase CLI, which it installs at its first use, and Java for Firestore. */
import { defineConfig } from "vitest/config";
import base from "../../vitest.config.ts";

export default defineConfig({
  resolve: base.resolve,
  test: {
    include: ["test/functions-emulator/**/*.test.ts"],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    reporters: ["verbose"],
  },
});
