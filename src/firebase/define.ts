/**
 * The functions as they are deployed: their triggers, options, parameters, secrets, APIs and roles.
 *
 * @module
 */
import { onRequest, type HttpsFunction } from "firebase-functions/https";
import * as functionsOptions from "firebase-functions/options";
import type { Role } from "firebase-functions/options";
import { BUCKET_PICKER, defineInt, defineSecret, defineString, type Expression } from "firebase-functions/params";
import { onSchedule } from "firebase-functions/scheduler";
import { onObjectFinalized } from "firebase-functions/storage";
import { onTaskDispatched } from "firebase-functions/tasks";
import type { ServerResponse } from "node:http";
import { GembatchError } from "../core/errors.ts";
import type { GembatchFunctions } from "./functions.ts";
import type { FunctionsOptions, Timing } from "./options.ts";
import type { WorkTask } from "./task.ts";
import { webhookSecret, type RequestWithBody } from "./webhook.ts";

/** What the functions do. */
export interface Handlers {
  work: (task: WorkTask, queue: string | undefined) => Promise<void>;
  sweep: () => Promise<void>;
  output: () => Promise<void>;
  webhook: (request: RequestWithBody, response: ServerResponse) => Promise<void>;
}

interface Defined {
  functions: Omit<GembatchFunctions, "gembatch">;
  /** The region that they are deployed to; when a function runs. */
  regionOf: () => string;
}

const defaultRegion = "us-central1";

export function defineFunctions(options: FunctionsOptions, timing: Timing, handlers: Handlers): Defined {
  const { timeoutSeconds } = timing;
  const place = defaultsOf(options);
  const { memory, maxInstances, ...common } = place;
  const { concurrency = 20, minInstances } = options;
  const gembatchWork = onTaskDispatched<WorkTask>(
    {
      ...common,
      ...present({ memory, maxInstances, minInstances }),
      concurrency,
      timeoutSeconds,
      // What is given up after that is the sweep's.
      retryConfig: { maxAttempts: 5, minBackoffSeconds: 15, maxBackoffSeconds: 300, maxDoublings: 4 },
      rateLimits: { maxConcurrentDispatches: 20 },
      ...options.work,
    },
    async ({ data, queueName }) => handlers.work(taskOf(data), plainName(queueName)),
  );
  const gembatchSweep = onSchedule(
    {
      schedule: options.schedule ?? "every 10 minutes",
      ...common,
      ...present({ memory, timeZone: options.timeZone }),
      maxInstances: 1,
      timeoutSeconds,
      retryCount: 0,
      ...options.sweep,
    },
    handlers.sweep,
  );
  const functions: Defined["functions"] = { gembatchWork, gembatchSweep };
  const bucket = bucketOf(options.bucket);
  if (bucket) {
    functions.gembatchOutput = onObjectFinalized(
      { ...common, memory: "512MiB", maxInstances: 2, bucket: bucket.name, ...options.output },
      async ({ data }) => {
        if (bucket.isOutput(data.name)) await handlers.output();
      },
    );
    declareApis(functions.gembatchOutput, ["aiplatform", "storage", "eventarc"]);
  }
  if (options.webhook) functions.gembatchWebhook = defineWebhook(options, common, handlers);
  if (options.declareRoles) declareRoles(bucket !== undefined);
  return { functions, regionOf: () => valueOf([gembatchWork.__endpoint.region].flat()[0]) || defaultRegion };
}

function defineWebhook(options: FunctionsOptions, common: Common, handlers: Handlers): HttpsFunction {
  const { secrets = [], region, ...rest } = common;
  const own = typeof options.webhook === "object" && options.webhook.secret ? [defineSecret(webhookSecret)] : [];
  return onRequest(
    {
      ...rest,
      ...(region === undefined ? {} : { region }),
      ...(secrets.length + own.length === 0 ? {} : { secrets: [...secrets, ...own] }),
      memory: "512MiB",
      maxInstances: 2,
      timeoutSeconds: 60,
      // Whoever it comes from, only what is signed is taken.
      invoker: "public",
      ...options.onWebhook,
    },
    handlers.webhook,
  );
}

// Options ----------------------------------------------------------------------------------------------------------------

/** The parameters, each declared only where nothing else says what it is for. */
const parameters = {
  region: () => defineString("GEMBATCH_REGION", { default: defaultRegion, description: "Region of gembatch's functions" }),
  memory: () =>
    defineInt("GEMBATCH_MEMORY_MB", {
      default: 1_024,
      description: "Memory of gembatchWork and gembatchSweep: 512, 1024, 2048, 4096, … MiB",
    }),
  maxInstances: () => defineInt("GEMBATCH_MAX_INSTANCES", { default: 3, description: "Instances of gembatchWork at most" }),
  bucket: () =>
    defineString("GEMBATCH_VERTEX_BUCKET", {
      description: "Bucket that Vertex AI writes to, without gs:// and folder",
      input: BUCKET_PICKER,
    }),
};

function defaultsOf(options: FunctionsOptions) {
  // What `setGlobalOptions` said shows in any function that says nothing itself.
  const { region, availableMemoryMb, maxInstances } = onTaskDispatched({}, () => {}).__endpoint;
  const isSet = (value: unknown) =>
    typeof value === "number" ||
    (Array.isArray(value) && value.length > 0) ||
    typeof (value as Expression<number> | undefined)?.value === "function";
  const { serviceAccount, vpcConnector, vpcConnectorEgressSettings, networkInterface, labels } = options;
  const secrets = options.secrets?.map((secret) => (typeof secret === "string" ? defineSecret(secret) : secret));
  return present({
    region: options.region ?? (isSet(region) ? undefined : parameters.region()),
    memory: options.memory ?? (isSet(availableMemoryMb) ? undefined : parameters.memory()),
    maxInstances: options.maxInstances ?? (isSet(maxInstances) ? undefined : parameters.maxInstances()),
    secrets,
    serviceAccount,
    vpcConnector,
    vpcConnectorEgressSettings,
    networkInterface,
    labels,
  });
}

type Common = Omit<ReturnType<typeof defaultsOf>, "memory" | "maxInstances">;

/** Without what is `undefined`: the SDK takes a key that is there for a value. */
function present<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function valueOf(region: unknown): string {
  if (typeof region === "string") return region;
  const value: unknown = typeof region === "object" && region !== null ? (region as Expression<string>).value?.() : undefined;
  return typeof value === "string" ? value : "";
}

/** The bucket's name, and which of its objects are of interest: outputs of jobs lie in a folder `output-…` of their batch. */
function bucketOf(bucket: FunctionsOptions["bucket"]) {
  if (bucket === undefined) return undefined;
  const [, name = "", folder = ""] = typeof bucket === "string" ? (/^(?:gs:\/\/)?([^/]+)\/?(.*?)\/*$/.exec(bucket) ?? []) : [];
  const isOutput = (object: string) => object.startsWith(folder === "" ? "" : `${folder}/`) && /(?:^|\/)output-[a-z0-9]+\//.test(object);
  return { name: bucket === true ? parameters.bucket() : typeof bucket === "string" ? name : bucket, isOutput };
}

// Tasks ------------------------------------------------------------------------------------------------------------------

/** What a task carries, if it is one of ours: anybody who may add tasks can add an empty one. */
function taskOf(data: unknown): WorkTask {
  const { notBefore, misses, round } = (typeof data === "object" && data !== null ? data : {}) as Record<string, unknown>;
  const number = (value: unknown) => (typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined);
  return present({ notBefore: number(notBefore), misses: number(misses), round: number(round) });
}

/** The queue's name as Cloud Tasks tells it; emulators tell other things. */
function plainName(name: string | undefined): string | undefined {
  return name !== undefined && /^[A-Za-z][A-Za-z0-9-]*$/.test(name) ? name : undefined;
}

// APIs and roles -----------------------------------------------------------------------------------------------------------

/** As the SDK's own triggers declare theirs: `requiresAPI` is only to be had together with every trigger that there is, which costs every cold start a quarter of a second. */
function declareApis(fn: object, names: readonly string[]): void {
  const declaring = fn as { __requiredAPIs?: { api: string; reason: string }[] };
  const own = names.map((name) => ({ api: `${name}.googleapis.com`, reason: "Needed for gembatch's batch jobs." }));
  declaring.__requiredAPIs = [...(declaring.__requiredAPIs ?? []), ...own];
}

/** Since firebase-functions 7.3; everything else runs on 7.0. */
function declareRoles(vertex: boolean): void {
  const { requiresRole } = functionsOptions as Partial<typeof functionsOptions>;
  if (requiresRole === undefined)
    throw new GembatchError("invalid_option", "Option declareRoles needs firebase-functions 7.3 or later.", {
      hint: "Update it: npm install firebase-functions@latest in the functions folder. Or grant the roles by hand: docs/firebase.md names them.",
    });
  for (const role of rolesOf(vertex)) requiresRole(role);
}

function rolesOf(vertex: boolean): Role[] {
  const always: Role[] = ["roles/cloudtasks.enqueuer", "roles/iam.serviceAccountUser", "roles/run.invoker", "roles/datastore.user"];
  return vertex ? [...always, "roles/aiplatform.user", "roles/storage.objectUser", "roles/eventarc.eventReceiver"] : always;
}
