/** What `gembatch worker` of the worker tests is given. Store, server and version come from the environment. */
import { Gembatch } from "../../src/index.ts";
import { defineChains } from "./worker-chains.ts";

export const gembatch = new Gembatch({
  polling: { minInterval: "50ms", maxInterval: "200ms" },
  batching: { debounce: "50ms" },
  // Longer than the server's list lags behind, far shorter than the default: the test would take hours.
  launch: { settle: "2s" },
  retry: { initialDelay: "200ms", maxDelay: "2s" },
  logger: "error",
  autoWorker: false,
});
defineChains(gembatch, process.env["PROGRAM_VERSION"] ?? "1");

// A timer of the program's own must not keep a worker that has stopped.
setInterval(() => {}, 60_000);
