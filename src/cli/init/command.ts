/**
 * `gembatch init`: makes a Firebase project ready for gembatch.
 *
 * @module
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { GembatchError } from "../../core/errors.ts";
import type { GoogleClient } from "../google/client.ts";
import { listFunctions, regionOf } from "../google/deployed.ts";
import { isDenied, isDisabled, isNotFound } from "../google/errors.ts";
import { listFields, listIndexes, readDatabase, readRules } from "../google/firestore.ts";
import { readServices, type ServiceStates } from "../google/services.ts";
import { readBucket, type Bucket } from "../google/storage.ts";
import { planCloud } from "./cloud-steps.ts";
import { deployCommand, deployTarget, gembatchCommand, type GivenOptions, installCommand, type Invocation } from "./commands.ts";
import { apisFor } from "./facts.ts";
import { planFiles, type Deployed } from "./file-steps.ts";
import { collectionsOf, declareDeployed } from "./indexes-file.ts";
import { connectGoogle, type CommandIo } from "./io.ts";
import { payloadsAtRisk } from "./payloads.ts";
import { chooseCodebase, chooseProject, needsDeployed, readProject, type Codebase, type FirebaseProject } from "./project.ts";
import { type EnvFile, envFileOf, readProjectEnv, resolveSettings, wantedPackages, withBucketAt, type Settings } from "./settings.ts";
import { messageOf, planSteps, runSteps, toOutcome, type Outcome } from "./steps.ts";
import { nextText, planText, stepText, type InitReport } from "./text.ts";

/** Options that say which project, and what for. */
export const settingsHelp = `  --project ID           project id or alias; default: that of firebase use, or .firebaserc
  --dir FOLDER           a folder of the project; default: this one
  --codebase NAME        of the functions, if firebase.json has several
  --provider NAME        vertex (default) or gemini
  --bucket gs://B/FOLDER inputs and outputs of jobs, large payloads; default: PROJECT-gembatch/gembatch
  --dataset NAME         BigQuery as well, for rows that JSON Lines cannot carry
  --location PLACE       where jobs run: global (default), us, eu or a region
  --region REGION        where functions run; default: where yours are, else us-central1
  --database ID          of Firestore; default: (default)
  --prefix NAME          what names of collections begin with; default: gembatch
  --service-account MAIL what the functions run as; default: the account of Compute Engine
  --days N               days after which files of jobs are deleted; default: 8
`;

const help = `gembatch init: makes a Firebase project ready for gembatch

Usage
  gembatch init [options]

It shows a plan, asks, and does it: indexes and rules of Firestore, the environment and exports of your functions, APIs, bucket, roles.
What is there stays as it is; run again, it changes nothing.

Options
${settingsHelp}  --dry-run              show the plan and do nothing
  --yes                  do not ask
  --offline              files only, without a call to Google (Firestore is taken to be of the Standard edition)
  --json                 plan and outcome as JSON on stdout, all else on stderr
  --help

Credentials: gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS.
Exit codes: 0 done, 1 something failed or was declined, 2 the command line or a file was wrong.
`;

export const settingsOptions = {
  project: { type: "string" },
  dir: { type: "string" },
  codebase: { type: "string" },
  provider: { type: "string" },
  bucket: { type: "string" },
  dataset: { type: "string" },
  location: { type: "string" },
  region: { type: "string" },
  database: { type: "string" },
  prefix: { type: "string" },
  "service-account": { type: "string" },
  days: { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** Resolves with the exit code. Throws for what is wrong with the command line, the files or the credentials. */
export async function runInitCommand(args: string[], io: CommandIo): Promise<number> {
  const { values } = parseArgs({
    args,
    allowPositionals: false,
    options: {
      ...settingsOptions,
      "dry-run": { type: "boolean" },
      yes: { type: "boolean", short: "y" },
      offline: { type: "boolean" },
    },
  });
  if (values.help) {
    io.out(help);
    return 0;
  }
  const { project, id, codebase, envFile, invocation } = locate(values, resolve(io.folder, values.dir ?? "."), io);
  const offline = values.offline ?? false;
  const cloud = offline ? undefined : await readCloud(connectGoogle(io, id), id);
  const wanted = resolveSettings(values, {
    project: id,
    env: readProjectEnv(project, codebase, envFile),
    regions: cloud?.regions ?? [],
  });
  const bucket = cloud === undefined ? undefined : await readBucketOf(cloud.client, wanted);
  const settings = bucket?.location === undefined ? wanted : withBucketAt(wanted, bucket.location);
  const deployed = cloud === undefined ? unknown : await readDeployed(cloud.client, project, settings);
  const indexes = io.indexes(settings.prefix, deployed.edition);
  const collections = collectionsOf(io.indexes(settings.prefix), settings.prefix);
  const files = planFiles({ project, codebase, envFile, settings, given: values, indexes, collections, deployed });
  const risk = bucket && settings.bucket && payloadsAtRisk(bucket, settings.bucket);
  const steps = [...files.steps, ...(cloud === undefined ? [] : planCloud({ ...cloud, settings }))];
  const planned = await planSteps(steps);
  const report: InitReport = {
    project: id,
    folder: project.root,
    codebase: { name: codebase.name, folder: codebase.folder, language: codebase.source.language, modules: codebase.source.modules },
    provider: settings.provider,
    offline,
    steps: planned.map(toOutcome),
    warnings: [...files.warnings, ...(risk ? [`${risk.note}: ${risk.mend}`] : [])],
  };
  const isDry = values["dry-run"] ?? false;
  const show = values.json ? io.err : io.out;
  const end = (outcome: InitReport, did: boolean): number => {
    const failed = outcome.steps.some(({ state }) => state === "failed" || state === "skipped");
    const next = nextCommands(invocation, settings, codebase, outcome.steps);
    if (values.json) io.out(`${JSON.stringify({ ...outcome, dryRun: isDry, did, next }, null, 2)}\n`);
    else if (!failed && !isDry) show(nextText(next));
    if (failed) io.err("\ngembatch init: not everything was done. Mend what is said above and run it again: what is done stays.\n");
    return failed ? 1 : 0;
  };

  show(planText(report));
  const count = planned.filter(({ state }) => state === "planned").length;
  if (count === 0) {
    show("There is nothing to do.\n");
    return end(report, false);
  }
  if (isDry) {
    show(`A dry run: nothing was done. Without --dry-run it does ${count} steps.\n`);
    return end(report, false);
  }
  if (!values.yes && !(await consent(io, count))) {
    io.err("gembatch init: declined, nothing was done.\n");
    return 1;
  }
  return end({ ...report, steps: await runSteps(planned, (outcome) => show(stepText(outcome))) }, true);
}

async function consent({ ask }: CommandIo, count: number): Promise<boolean> {
  if (ask === undefined) {
    throw new GembatchError("invalid_option", "There is no terminal to ask on.", {
      hint: "Pass --yes to do what the plan says, or --dry-run to only see it.",
    });
  }
  return ask(`Do these ${count} steps? [y/N] `);
}

interface CloudState {
  client: GoogleClient;
  services: ServiceStates;
  /** Of each function that is deployed. */
  regions: string[];
}

/** What has to be known of the project before anything else. */
async function readCloud(client: GoogleClient, id: string): Promise<CloudState> {
  const services = await readServicesOf(client, id);
  const functions = await ifReadable(listFunctions(client, id), []);
  return { client, services, regions: (functions ?? []).map(regionOf) };
}

/** The states of all APIs that may be needed. Throws `provider_auth` if the project cannot be read. */
export async function readServicesOf(client: GoogleClient, id: string): Promise<ServiceStates> {
  const names = [...new Set([...apisFor("vertex", true), ...apisFor("gemini", false)])];
  try {
    return await readServices(client, id, names);
  } catch (error) {
    const isOurs = GembatchError.is(error) && error.details["reason"] === "NO_CREDENTIALS";
    if (isOurs || (!isDenied(error) && !isNotFound(error))) throw error;
    throw new GembatchError("provider_auth", `The project "${id}" cannot be read: ${messageOf(error)}`, {
      hint: "Check its id (--project, .firebaserc), and that these credentials may use it.",
      cause: error,
    });
  }
}

const unknown: DeployedState = { edition: undefined, indexes: undefined, rules: undefined };

interface DeployedState extends Deployed {
  edition: string | undefined;
}

/** What a command is about: found in the folder, by its options. */
export interface Located {
  project: FirebaseProject;
  /** Of the project at Google. */
  id: string;
  codebase: Codebase;
  envFile: EnvFile;
  invocation: Invocation;
}

/** Throws for a folder without firebase.json, and for a project or codebase that is not there or not the only one. */
export function locate(given: GivenOptions & { project?: string | undefined }, folder: string, { env, folder: cwd }: CommandIo): Located {
  const project = readProject(folder);
  const chosen = chooseProject(project, given.project, env);
  const codebase = chooseCodebase(project, given.codebase);
  const envFile = envFileOf(project, codebase, chosen);
  const invocation = { cwd, root: project.root, folder: codebase.folder, project: envFile.project, given };
  return { project, id: chosen.id, codebase, envFile, invocation };
}

/** The bucket, if it is there and may be seen. */
export async function readBucketOf(client: GoogleClient, { bucket }: Settings): Promise<Bucket | undefined> {
  return bucket && (await ifReadable(readBucket(client, bucket.name), undefined));
}

/** Of rules and indexes only that is read which no file holds that a deploy takes. */
async function readDeployed(client: GoogleClient, project: FirebaseProject, { project: id, database }: Settings): Promise<DeployedState> {
  const needs = needsDeployed(project, database);
  const readAll = async () => declareDeployed(await listIndexes(client, id, database), await listFields(client, id, database));
  const readText = async () => (await readRules(client, id, database)) ?? null;
  const found = await ifReadable(readDatabase(client, id, database), undefined);
  return {
    edition: found?.databaseEdition,
    indexes: needs.indexes ? await ifReadable(readAll(), { indexes: [], fieldOverrides: [] }) : undefined,
    rules: needs.rules ? await ifReadable(readText(), null) : undefined,
  };
}

/** `none` for what is not there, or whose API is not enabled: then nothing can be there. `undefined` for what these credentials may not see. */
async function ifReadable<T, N>(promise: Promise<T>, none: N): Promise<T | N | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (isNotFound(error) || isDisabled(error)) return none;
    if (isDenied(error)) return undefined;
    throw error;
  }
}

/** What is left to a person, in order. */
function nextCommands(invocation: Invocation, settings: Settings, { name, source }: Codebase, steps: readonly Outcome[]): string[] {
  const missing = wantedPackages(settings).filter((one) => !(one in source.dependencies));
  return [
    ...(missing.length === 0 ? [] : [installCommand(invocation, missing)]),
    ...steps.filter(({ state, area, show }) => state === "by hand" && area === "cloud" && show !== undefined).map(({ show }) => show!),
    deployCommand(invocation, `${deployTarget(name)},firestore`),
    gembatchCommand(invocation, "doctor"),
  ];
}
