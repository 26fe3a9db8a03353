/**
 * What `gembatch init` and `gembatch doctor` are about: from the command line, else from the project's dotenv file, else from what is deployed, else by default.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { GembatchError } from "../../core/errors.ts";
import { inFolder } from "./commands.ts";
import { readEnv } from "./env-file.ts";
import { canListen, defaults, minDays, type ProviderName } from "./facts.ts";
import type { ChosenProject, Codebase, FirebaseProject } from "./project.ts";

/** Of the command line. */
export interface GivenSettings {
  provider?: string | undefined;
  bucket?: string | undefined;
  dataset?: string | undefined;
  location?: string | undefined;
  region?: string | undefined;
  database?: string | undefined;
  prefix?: string | undefined;
  days?: string | undefined;
  "service-account"?: string | undefined;
}

export interface Settings {
  project: string;
  provider: ProviderName;
  /** A bucket and the folder of jobs in it. */
  bucket: { name: string; folder: string } | undefined;
  /** A dataset of BigQuery in the project. */
  dataset: string | undefined;
  /** Where jobs of Vertex AI run. */
  location: string;
  /** Where the bucket and the dataset are made. */
  storageLocation: string;
  /** Where the bucket is, or will be. */
  bucketLocation: string;
  /** Where functions run. */
  region: string;
  /** Whether a function there can hear of outputs in the bucket. */
  hearsOutputs: boolean;
  database: string;
  /** What names of collections begin with. */
  prefix: string;
  /** Days until inputs and outputs of jobs are deleted. */
  days: number;
  /** What the functions run as; `undefined`: the default account of Compute Engine. */
  serviceAccount: string | undefined;
}

/** A dotenv file of the codebase beside `.env`. */
export interface EnvFile {
  /** Relative to the project's folder. */
  path: string;
  /** What `--project` must say for the Firebase CLI to read it. */
  project: string;
  /** Files of aliases for which the Firebase CLI refuses to deploy, since there is one of the id as well. */
  refused: readonly string[];
}

/**
 * The dotenv file of the codebase for this project. The Firebase CLI reads that of the id always and that of the alias by which the project is named, and refuses both: so it is that of an alias, where there is one, and
 * no other.
 */
export function envFileOf({ root, aliases }: FirebaseProject, { folder }: Codebase, { id, alias }: ChosenProject): EnvFile {
  const isThere = (name: string): boolean => existsSync(join(root, folder, `.env.${name}`));
  const names = Object.keys(aliases).filter((name) => aliases[name] === id && name !== id && isThere(name));
  // Of several the one that was asked for.
  const byAlias = names.find((name) => name === alias) ?? names[0];
  if (byAlias !== undefined && !isThere(id)) return { path: inFolder(folder, `.env.${byAlias}`), project: byAlias, refused: [] };
  return { path: inFolder(folder, `.env.${id}`), project: id, refused: names.map((name) => inFolder(folder, `.env.${name}`)) };
}

/** Both files are there: what keeps a deploy by alias from working, and how to mend it. */
export function twoEnvFiles({ path, refused }: EnvFile): { note: string; mend: string } | undefined {
  return refused.length === 0
    ? undefined
    : {
        note: `beside ${path} there is ${refused.join(" and ")}: the Firebase CLI refuses to deploy with both when the project is named by its alias`,
        mend: `move the lines of ${refused.join(" and ")} into ${path} and delete it`,
      };
}

/** The values that the functions will find: of `.env`, then of the project's own file. */
export function readProjectEnv(project: FirebaseProject, codebase: Codebase, envFile: EnvFile): Map<string, string> {
  const values = new Map<string, string>();
  for (const path of [inFolder(codebase.folder, ".env"), envFile.path]) {
    const file = join(project.root, path);
    if (existsSync(file)) for (const [name, value] of readEnv(readFileSync(file, "utf8"))) values.set(name, value);
  }
  return values;
}

/** `regions`: of the functions that are deployed. Throws `invalid_option`. */
export function resolveSettings(
  given: GivenSettings,
  { project, env, regions }: { project: string; env: ReadonlyMap<string, string>; regions: readonly string[] },
): Settings {
  const asked = (name: keyof GivenSettings, variable: string): string | undefined => given[name] ?? (env.get(variable) || undefined);
  const bucketText = asked("bucket", "GEMBATCH_VERTEX_BUCKET");
  const datasetText = asked("dataset", "GEMBATCH_VERTEX_DATASET");
  const provider = asked("provider", "GEMBATCH_PROVIDER") ?? "vertex";
  if (provider !== "vertex" && provider !== "gemini") refuse("provider", "vertex or gemini", provider);
  const dataset = provider === "vertex" && datasetText !== undefined ? toDataset(datasetText, project) : undefined;
  const region = check(
    "region",
    asked("region", "GEMBATCH_REGION") ?? mostFrequent(regions) ?? defaults.region,
    /^[a-z]+-[a-z]+\d+$/,
    "a region such as us-central1",
  );
  const location = check(
    "location",
    asked("location", "GOOGLE_CLOUD_LOCATION") ?? (dataset === undefined ? "global" : region),
    /^[a-z][a-z0-9-]*$/,
    'a region, "us", "eu" or "global"',
  );
  if (dataset !== undefined && location === "global") {
    throw new GembatchError("invalid_option", "Jobs on tables of BigQuery need a region.", {
      hint: "Give one with --location us-central1.",
    });
  }
  const bucket = bucketText === undefined ? (provider === "vertex" ? defaultBucket(project) : undefined) : toBucket(bucketText);
  const storageLocation = location === "global" ? region : location;
  const account = given["service-account"];
  return {
    project: check(
      "project",
      project,
      /^(?:[a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{2,61}[a-z0-9]$/,
      "the id of a project such as my-project-1a2b3",
    ),
    provider,
    bucket,
    dataset,
    location,
    storageLocation,
    bucketLocation: storageLocation,
    region,
    hearsOutputs: hears({ provider, bucket, region }, storageLocation),
    database: check(
      "database",
      given.database ?? defaults.database,
      /^(?:\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$/,
      "the id of a database",
    ),
    prefix: check("prefix", given.prefix ?? defaults.prefix, /^[A-Za-z][\w-]{0,63}$/, "letters, digits, - and _"),
    days: toDays(given.days),
    serviceAccount:
      account === undefined ? undefined : check("service-account", account, /^[\w.-]+@[\w.-]+$/, "the e-mail address of an account"),
  };
}

/** The settings with a bucket that is there already. */
export function withBucketAt(settings: Settings, location: string): Settings {
  const bucketLocation = location.toLowerCase();
  return { ...settings, bucketLocation, hearsOutputs: hears(settings, bucketLocation) };
}

function hears({ provider, bucket, region }: Pick<Settings, "provider" | "bucket" | "region">, location: string): boolean {
  return provider === "vertex" && bucket !== undefined && canListen(region, location);
}

/** The packages that the functions need, by what they use. */
export function wantedPackages({ provider, dataset }: Settings): string[] {
  return [
    ...["gembatch", "firebase-admin", "firebase-functions"],
    ...(provider === "vertex" ? ["@google-cloud/storage"] : []),
    ...(dataset === undefined ? [] : ["@google-cloud/bigquery"]),
  ];
}

const defaultBucket = (project: string) => ({ name: `${project.replaceAll(/[^a-z0-9-]/g, "-")}-gembatch`, folder: defaults.folder });

/** `gs://bucket/folder`, `bucket/folder`, `bucket`; as `vertex({ bucket })` reads it. */
function toBucket(text: string): { name: string; folder: string } {
  const match = /^(?:gs:\/\/)?([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:\/+([\w./-]*?))?\/*$/.exec(text.trim());
  if (!match?.[1]) return refuse("bucket", "a bucket such as gs://my-bucket/gembatch", text);
  return { name: match[1], folder: match[2] || defaults.folder };
}

/** `dataset`, `project.dataset` or `bq://project.dataset`, in the project itself. */
function toDataset(text: string, project: string): string {
  const match = /^(?:bq:\/\/)?(?:([\w.:-]+)\.)?(\w{1,1024})$/.exec(text.trim());
  if (!match?.[2] || (match[1] !== undefined && match[1] !== project))
    return refuse("dataset", `a dataset of ${project} such as gembatch`, text);
  return match[2];
}

function toDays(text: string | undefined): number {
  const days = text === undefined ? defaults.days : Number(text);
  if (!Number.isInteger(days) || days < minDays)
    refuse("days", `a whole number of at least ${minDays}, which is longer than a job can live`, text ?? "");
  return days;
}

function check(name: string, value: string, form: RegExp, wanted: string): string {
  return form.test(value) ? value : refuse(name, wanted, value);
}

function refuse(name: string, wanted: string, value: string): never {
  throw new GembatchError("invalid_option", `--${name} must be ${wanted}, not ${JSON.stringify(value.slice(0, 80))}.`);
}

/** The one that most functions are in; the first by name among equals. */
function mostFrequent(regions: readonly string[]): string | undefined {
  const counts = Map.groupBy(regions, (region) => region);
  return [...counts].toSorted(([a, one], [b, other]) => other.length - one.length || (a < b ? -1 : 1))[0]?.[0];
}
