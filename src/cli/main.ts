#!/usr/bin/env node
import { runCli } from "./run.ts";

// No top-level await: the file may be required from CommonJS.
void runCli(process.argv.slice(2)).then((code) => {
  // What a config imports may hold connections and timers of its own. First everything is written.
  process.stdout.write("", () => process.exit(code));
});
