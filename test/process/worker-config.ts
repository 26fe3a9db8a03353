/** What `gembatch worker` of the worker tests is given. Store, server, version, lease and patience come from the environment. */
import { Gembatch } from "../../src/index.ts";
import { postgresStore } from "../../src/postgres.ts";
import { defineChains } from "./worker-chains.ts";

const {
  GEMBATCH_STORE: url = "",
  PROGRAM_VERSION: version = "1",
  PROGRAM_LEASE: lease,
  PROGRAM_PATIENCE_MS: patience,
  PROGRAM_LOGGER: logger,
} = process.env;

export const gembatch = new Gembatch({
  ...(patience === undefined ? {} : { store: postgresStore({ url, patienceMs: Number(patience) }) }),
  ...(lease === undefined ? {} : { worker: { lease: lease as `${number}s` } }),
  polling: { minInterval: "50ms", maxInterval: "200ms" },
  batching: { debounce: "50ms" },
  // Longer than the server's list lags behind, far shorter than the default: the test would take hours.
  launch: { settle: "2s" },
  retry: { initialDelay: "200ms", maxDelay: "2s" },
  logger: logger === "none" ? false : "error",
  autoWorker: false,
});
defineChains(gembatch, version);

// A timer of the program's own must not keep a worker that has stopped.
setInterval(() => {}, 60_000);
