import type { HttpsOptions } from "firebase-functions/https";
import type { GlobalOptions, MemoryOption } from "firebase-functions/options";
import type { Expression } from "firebase-functions/params";
import type { ScheduleOptions } from "firebase-functions/scheduler";
import type { StorageOptions } from "firebase-functions/storage";
import type { TaskQueueOptions } from "firebase-functions/tasks";
import type { WebhookOptions } from "../client/connect.ts";
import { isGembatch } from "../client/config.ts";
import type { Gembatch } from "../client/gembatch.ts";
import type { Clock } from "../core/clock.ts";
import { parseDuration, type Duration } from "../core/duration.ts";
import { describe, GembatchError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { checkMethods, checkType, parseCount, refuseUnknown } from "../core/options.ts";

/** A secret of Secret Manager, by what `defineSecret` gave. */
type Secret = NonNullable<GlobalOptions["secrets"]>[number];

/** The instance, or a function that makes it when a function first runs: what it takes from parameters and secrets has no value earlier. */
export type FunctionsSource = Gembatch | (() => Gembatch | Promise<Gembatch>);

export interface FunctionsWebhookOptions extends Omit<WebhookOptions, "secret"> {
  /** Whether the webhook of the project is accepted: its signing secret is the secret `GEMBATCH_WEBHOOK_SECRET` (two, with a comma between, while it is changed). Default false: webhooks of jobs only. */
  secret?: boolean;
}

/** Where and how the functions run. What is left out comes from `setGlobalOptions`, and what is not said there either from parameters with these names, asked for at the first deployment. */
export interface FunctionsOptions {
  /** One region, for all of them. Default: `GEMBATCH_REGION`, `us-central1`. */
  region?: string | Expression<string>;
  /** Memory of `gembatchWork` and `gembatchSweep`. Default: `GEMBATCH_MEMORY_MB`, 1,024. */
  memory?: MemoryOption | Expression<number>;
  /** Instances of `gembatchWork` at most. Default: `GEMBATCH_MAX_INSTANCES`, 3. */
  maxInstances?: number | Expression<number>;
  /** Instances of `gembatchWork` that are kept warm, and paid. Default 0. */
  minInstances?: number | Expression<number>;
  /** Tasks that one instance of `gembatchWork` takes at once: one of them works, the others join it. Default 20; 1 gives every task an instance of its own, up to `maxInstances`. */
  concurrency?: number | Expression<number>;
  /** How long `gembatchWork` and `gembatchSweep` may take, 60 to 1,800. Default 540. A step, a call or an upload that takes longer never comes to its end. */
  timeoutSeconds?: number;
  /** How long one invocation takes up new work. Default: four fifths of the time it has. */
  budget?: Duration;
  /** How exactly tasks are timed: everybody who wants a worker within such a time gets the same one, at its end. Default `"10s"`. */
  wakeInterval?: Duration;
  /** When the sweep runs: a cron line or App Engine's words. Default `"every 10 minutes"`. */
  schedule?: string;
  timeZone?: string;
  /** The bucket that Vertex AI writes to, as a name or `gs://bucket/folder`: defines `gembatchOutput`. `true`: the parameter `GEMBATCH_VERTEX_BUCKET`, a name alone, which is also where `vertex()` looks. */
  bucket?: true | string | Expression<string>;
  /** Whether there is a `gembatchWebhook`, a public address for the webhooks of the Gemini API. Default false. */
  webhook?: boolean | FunctionsWebhookOptions;
  /** Secrets that the instance needs, such as `"GEMINI_API_KEY"`: declared, and given to every one of the functions as environment variables. */
  secrets?: readonly Secret[];
  serviceAccount?: GlobalOptions["serviceAccount"];
  vpcConnector?: GlobalOptions["vpcConnector"];
  vpcConnectorEgressSettings?: GlobalOptions["vpcConnectorEgressSettings"];
  networkInterface?: GlobalOptions["networkInterface"];
  labels?: Record<string, string>;
  /**
   * Whether the roles that the functions need are declared, too. That moves **all** functions of the codebase to a service account that Firebase manages, and fails with accounts of your own: for codebases with
   * nothing else in them. Default false.
   */
  declareRoles?: boolean;
  /** The full name of the queue, if `gembatchWork` is exported by another name. Default: `GEMBATCH_TASK_QUEUE`, else what the running function's name says. */
  queue?: string;
  /** More options of each function, before those above. */
  work?: TaskQueueOptions;
  sweep?: Omit<ScheduleOptions, "schedule">;
  output?: Omit<StorageOptions, "bucket">;
  onWebhook?: HttpsOptions;
  /** Where messages go. Default: the logger of firebase-functions. */
  logger?: Logger;
  /** Where time comes from; for tests. */
  clock?: Clock;
}

const known = [
  "region",
  "memory",
  "maxInstances",
  "minInstances",
  "concurrency",
  "timeoutSeconds",
  "budget",
  "wakeInterval",
  "schedule",
  "timeZone",
  "bucket",
  "webhook",
  "secrets",
  "serviceAccount",
  "vpcConnector",
  "vpcConnectorEgressSettings",
  "networkInterface",
  "labels",
  "declareRoles",
  "queue",
  "work",
  "sweep",
  "output",
  "onWebhook",
  "logger",
  "clock",
] as const satisfies readonly (keyof FunctionsOptions)[];

/** Durations in milliseconds. */
export interface Timing {
  timeoutSeconds: number;
  budgetMs: number;
  graceMs: number;
  bucketMs: number;
}

/** Part of its time that an invocation works; half of the rest is for what it has in hand then. */
const budgetShare = 0.8;

/** Throws `invalid_option`. */
export function checkOptions(options: FunctionsOptions): Timing {
  refuseUnknown(options, known, "");
  checkType(options.declareRoles, "boolean", "declareRoles");
  checkType(options.queue, "string", "queue");
  checkMethods(options.clock, ["now", "monotonic", "sleep"], "clock");
  checkMethods(options.logger, ["debug", "info", "warn", "error"], "logger");
  if (typeof options.webhook === "object")
    refuseUnknown(options.webhook, ["secret", "jwks", "audience", "issuer", "toleranceMs"], "webhook");
  const timeoutSeconds = parseCount(options.timeoutSeconds ?? 540, "timeoutSeconds", 60);
  const budgetMs = parseDuration(options.budget ?? timeoutSeconds * 1_000 * budgetShare, "budget");
  if (timeoutSeconds > 1_800 || budgetMs > timeoutSeconds * 1_000)
    throw new GembatchError("invalid_option", "Option timeoutSeconds must be 1800 at most, and budget within it.", {
      hint: "Task queue and scheduled functions are given 30 minutes.",
    });
  const bucketMs = parseDuration(options.wakeInterval ?? "10s", "wakeInterval");
  if (bucketMs < 1_000 || bucketMs > 600_000)
    throw new GembatchError(
      "invalid_option",
      `Option wakeInterval must be a second to ten minutes, got ${describe(options.wakeInterval)}.`,
    );
  return { timeoutSeconds, budgetMs, graceMs: (timeoutSeconds * 1_000 - budgetMs) / 2, bucketMs };
}

/** The instance, made once, and told to `onMade` before anybody has it. What fails is tried again at the next call. */
export function instanceOf(source: FunctionsSource, onMade: (gembatch: Gembatch) => void): () => Promise<Gembatch> {
  const made = (gembatch: unknown): Gembatch => {
    if (!isGembatch(gembatch))
      throw new GembatchError(
        "invalid_option",
        `gembatchFunctions() needs a Gembatch or a function that makes one, got ${describe(gembatch)}.`,
      );
    onMade(gembatch);
    return gembatch;
  };
  if (typeof source !== "function") {
    const gembatch = made(source);
    return async () => gembatch;
  }
  let making: Promise<Gembatch> | undefined;
  return async () => {
    making ??= (async () => made(await source()))().catch((error: unknown) => {
      making = undefined;
      throw error;
    });
    return making;
  };
}
