import type { Duration } from "../core/duration.ts";
import { parseDuration } from "../core/duration.ts";
import { parseCount, refuseUnknown } from "../core/options.ts";
import { describe, GembatchError } from "../core/errors.ts";
import type { Gembatch } from "./gembatch.ts";

/** What `gembatch.config.ts` exports: the instance that the command line works with, and how. */
export interface GembatchConfig {
  /** The instance. The config imports the modules that register its chains and handlers. */
  gembatch: Gembatch;
  /** For `gembatch worker`. Options of the command line come before these. */
  worker?: {
    /** Turns executed at once. Default: `worker.concurrency` of the instance. */
    concurrency?: number;
    /** How long turns and calls in hand may take after the first signal. Default `"10s"`. */
    grace?: Duration;
  };
}

/** The config as it is, checked. Throws `invalid_option`. */
export function defineConfig(config: GembatchConfig): GembatchConfig {
  refuseUnknown(config, ["gembatch", "worker"], "config");
  if (!isGembatch(config.gembatch)) {
    throw new GembatchError("invalid_option", `Option config.gembatch must be a Gembatch, got ${describe(config.gembatch)}.`, {
      hint: "export default defineConfig({ gembatch: new Gembatch() });",
    });
  }
  const { worker = {} } = config;
  refuseUnknown(worker, ["concurrency", "grace"], "config.worker");
  if (worker.concurrency !== undefined) parseCount(worker.concurrency, "config.worker.concurrency");
  if (worker.grace !== undefined) parseDuration(worker.grace, "config.worker.grace");
  return config;
}

/** By what it can do: the config may load another copy of this package than the command line. */
export function isGembatch(value: unknown): value is Gembatch {
  if (typeof value !== "object" || value === null) return false;
  const { chain, worker, onIdle, close } = value as Record<string, unknown>;
  return [chain, worker, onIdle, close].every((method) => typeof method === "function");
}
