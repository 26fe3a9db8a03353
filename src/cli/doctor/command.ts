/**
 * `gembatch doctor`: looks at everything that gembatch needs and says how to mend what is wrong.
 *
 * @module
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import type { GoogleClient } from "../google/client.ts";
import { listFunctions, regionOf, type DeployedFunction } from "../google/deployed.ts";
import { isDenied, isDisabled, isUnreachable } from "../google/errors.ts";
import { readDatabase } from "../google/firestore.ts";
import { runtimeAccount } from "../init/cloud-steps.ts";
import { locate, readBucketOf, readServicesOf, settingsHelp, settingsOptions } from "../init/command.ts";
import { deployTarget, type GivenOptions } from "../init/commands.ts";
import { collectionsOf } from "../init/indexes-file.ts";
import { connectGoogle, type CommandIo } from "../init/io.ts";
import { findRoot } from "../init/project.ts";
import { readProjectEnv, resolveSettings, withBucketAt, type Settings } from "../init/settings.ts";
import type { ServiceStates } from "../google/services.ts";
import { messageOf } from "../init/steps.ts";
import { failed, ok, runChecks, type Check, type CheckResult } from "./checks.ts";
import { cloudChecks } from "./cloud-checks.ts";
import { findFunction, functionChecks, type FunctionContext } from "./function-checks.ts";
import { localChecks } from "./local-checks.ts";
import { openPlain, plainChecks } from "./plain-checks.ts";
import { checkText, verdictText } from "./text.ts";

const help = `gembatch doctor: looks at everything that gembatch needs, and says how to mend what is wrong

Usage
  gembatch doctor [options]

In a Firebase project: files, credentials, APIs, Firestore, bucket (it writes, reads and deletes one object), roles, functions, queue, schedule.
Elsewhere, or with --plain: gembatch.config.ts, the store, the key of the Gemini API.

Options
${settingsHelp}  --plain                as if this were no Firebase project
  --config FILE          with --plain; default: gembatch.config.ts in this folder
  --json                 the checks as JSON on stdout
  --help

Exit codes: 0 all is well (warnings may be left), 1 something must be mended, 2 the command line or a file was wrong.
`;

/** Resolves with the exit code. Throws for what is wrong with the command line or the files. */
export async function runDoctorCommand(args: string[], io: CommandIo): Promise<number> {
  const { values } = parseArgs({
    args,
    allowPositionals: false,
    options: { ...settingsOptions, plain: { type: "boolean" }, config: { type: "string" } },
  });
  if (values.help) {
    io.out(help);
    return 0;
  }
  const folder = resolve(io.folder, values.dir ?? ".");
  const isPlain = values.plain === true || values.config !== undefined || findRoot(folder) === undefined;
  const results = isPlain ? await checkPlain(values.config, folder, io) : await checkProject(values, folder, io);
  const isWell = !results.some(({ state }) => state === "failed");
  if (values.json) io.out(`${JSON.stringify({ ok: isWell, checks: results }, null, 2)}\n`);
  else io.out(results.map(checkText).join("") + verdictText(results));
  return isWell ? 0 : 1;
}

async function checkPlain(config: string | undefined, folder: string, { env }: CommandIo): Promise<CheckResult[]> {
  const context = await openPlain(config, folder, env);
  try {
    return await runChecks(plainChecks(context));
  } finally {
    await context.gembatch.close();
  }
}

async function checkProject(values: GivenOptions & { project?: string }, folder: string, io: CommandIo): Promise<CheckResult[]> {
  const { project, id, codebase, envFile, invocation } = locate(values, folder, io);
  const client = connectGoogle(io, id);
  const services = await readServicesSafely(client, id);
  const isReadable = "enabled" in services;
  const deployed = isReadable ? await readSafely<DeployedFunction[]>(listFunctions(client, id), []) : [];
  const wanted = resolveSettings(values, { project: id, env: readProjectEnv(project, codebase, envFile), regions: deployed.map(regionOf) });
  const bucket = isReadable ? await readBucketOf(client, wanted) : undefined;
  const settings = bucket?.location === undefined ? wanted : withBucketAt(wanted, bucket.location);
  const database = isReadable ? await readSafely(readDatabase(client, id, settings.database), undefined) : undefined;
  const indexes = io.indexes(settings.prefix, database?.databaseEdition);
  const local = localChecks({
    project,
    codebase,
    envFile,
    settings,
    invocation,
    indexes,
    collections: collectionsOf(io.indexes(settings.prefix), settings.prefix),
  });
  if (!isReadable) return runChecks([...local, services]);
  const functions: FunctionContext = {
    client,
    project: id,
    prefix: codebase.prefix,
    target: deployTarget(codebase.name),
    invocation,
    deployed,
  };
  const account = accountOf(functions, settings, services);
  return runChecks([
    ...local,
    { id: "project", title: `project ${id}`, look: async () => ok(`number ${services.number}, read with these credentials`) },
    ...cloudChecks({ client, settings, services, invocation, indexes, account, hearsOutputs: hears(functions, settings) }),
    ...functionChecks(functions),
  ]);
}

/** Whether there is a function that hears of outputs, or will be with the first deploy. */
function hears(functions: FunctionContext, settings: Settings): boolean {
  const isDeployed = findFunction(functions, "gembatchWork") !== undefined;
  const exists = isDeployed ? findFunction(functions, "gembatchOutput") !== undefined : settings.hearsOutputs;
  return exists && settings.provider === "vertex";
}

/** The account that the deployed function really runs as, else the one that it would. */
function accountOf(functions: FunctionContext, settings: Settings, services: ServiceStates): string {
  return findFunction(functions, "gembatchWork")?.serviceConfig?.serviceAccountEmail ?? runtimeAccount({ settings, services });
}

/** The states of the APIs, or the check that says why nothing else can be looked at. */
async function readServicesSafely(client: GoogleClient, id: string): Promise<ServiceStates | Check> {
  try {
    return await readServicesOf(client, id);
  } catch (error) {
    const mend = isUnreachable(error) ? "check the network" : "gcloud auth application-default login, or another --project";
    return { id: "project", title: `project ${id}`, look: async () => failed(messageOf(error), mend) };
  }
}

/** `none` for what cannot be read: a check will say so. */
async function readSafely<T>(promise: Promise<T>, none: T): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    if (isDisabled(error) || isDenied(error)) return none;
    throw error;
  }
}
