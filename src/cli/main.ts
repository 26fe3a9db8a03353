#!/usr/bin/env node
import { runCli } from "./run.ts";

// No top-level await: the file may be required from CommonJS.
void runCli(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
