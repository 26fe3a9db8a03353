/**
 * What gembatch needs of a Google Cloud project: said here once. `gembatch init` makes it, `gembatch doctor` looks for it, and the Terraform module reads it from a file that is
 * generated from here (`deploy/generate.ts`).
 *
 * @module
 */

const suffix = ".googleapis.com";
const apis = (...names: string[]): readonly string[] => names.map((name) => name + suffix);

/** APIs, by what needs them. */
export const requiredApis = {
  always: apis(
    // This command itself: roles, service accounts, deployed rules.
    ...["cloudresourcemanager", "iam", "firebaserules"],
    // Functions of the second generation, and what builds, triggers and wakes them. Compute Engine owns the account that they run as by default.
    ...["cloudfunctions", "cloudbuild", "artifactregistry", "compute", "run", "eventarc", "pubsub", "cloudtasks", "cloudscheduler"],
    // The store, and the bucket for large payloads.
    ...["firestore", "storage"],
  ),
  vertex: apis("aiplatform"),
  gemini: apis("generativelanguage", "secretmanager"),
  dataset: apis("bigquery"),
} as const;

/** Roles of the account that the functions run as, by where and by what needs them. */
export const requiredRoles = {
  /** On the project: read and write the store, enqueue tasks for oneself, have them call the functions. */
  project: ["roles/datastore.user", "roles/cloudtasks.enqueuer", "roles/run.invoker"],
  vertexProject: ["roles/aiplatform.user"],
  /** Where `gembatchOutput` is exported: Eventarc hands it the events of the bucket in the account's name. */
  eventsProject: ["roles/eventarc.eventReceiver"],
  datasetProject: ["roles/bigquery.jobUser"],
  /** On the account itself: a task calls the function in its name. */
  account: ["roles/iam.serviceAccountUser"],
  /** On the bucket, also of the service agent of Vertex AI. */
  bucket: ["roles/storage.objectAdmin"],
  /** On the dataset, also of the service agent of Vertex AI. */
  dataset: ["roles/bigquery.dataEditor"],
} as const;

/** The API whose service agent reads inputs and writes outputs of jobs. */
export const agentApi = `aiplatform${suffix}`;

export const defaults = {
  /** What names of Firestore's collections begin with. */
  prefix: "gembatch",
  database: "(default)",
  /** Where functions are deployed; that of the Firebase CLI. */
  region: "us-central1",
  /** The folder of the bucket in which inputs and outputs of jobs lie. */
  folder: "gembatch",
  /** Days after which objects in that folder are deleted: a job lives up to four. */
  days: 8,
  /** Days after which tables of the dataset are deleted. */
  tableDays: 7,
  /** Of the functions' parameters, which the Firebase CLI asks for and never takes without asking. */
  memoryMb: 1_024,
  maxInstances: 3,
  /** The secret that holds the key of the Gemini API. */
  secret: "GEMINI_API_KEY",
} as const;

/** A job of Vertex AI waits up to 72 hours and runs up to 24: what lies there must not be deleted before. */
export const minDays = 5;

/** The functions by the names under which they are exported. */
export const functionNames = ["gembatchWork", "gembatchSweep", "gembatchOutput", "gembatchWebhook"] as const;

export const dayMs = 86_400_000;

export type ProviderName = "vertex" | "gemini";

/** The regions that the Firebase CLI takes to lie in places of more than one. */
const regionsIn: Readonly<Record<string, readonly string[]>> = {
  us: ["us-central1", "us-east1", "us-east4", "us-west1", "us-west2", "us-west3", "us-west4"],
  eu: ["europe-central2", "europe-north1", "europe-west1", "europe-west3", "europe-west4", "europe-west5"],
  asia: [
    ...["asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3"],
    ...["asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2"],
  ],
  nam4: ["us-central1", "us-east1"],
  eur4: ["europe-north1", "europe-west4"],
  asia1: ["asia-northeast1", "asia-northeast2"],
};

/** Whether functions of this region can be triggered by a bucket there (a check of the Firebase CLI when it deploys): in the same region, or around it. */
export function canListen(region: string, bucketLocation: string): boolean {
  const place = bucketLocation.toLowerCase();
  return place === region || place === "us-central1" || regionsIn[place]?.includes(region) === true;
}

/** The APIs that this provider needs, with a dataset or without. */
export function apisFor(provider: ProviderName, hasDataset: boolean): readonly string[] {
  return [...requiredApis.always, ...requiredApis[provider], ...(hasDataset ? requiredApis.dataset : [])];
}

/** The roles of the functions' account on the project. `hearsOutputs`: whether there is a `gembatchOutput`. */
export function projectRolesFor({
  provider,
  dataset,
  hearsOutputs,
}: {
  provider: ProviderName;
  dataset: string | undefined;
  hearsOutputs: boolean;
}): readonly string[] {
  return [
    ...requiredRoles.project,
    ...(provider === "vertex" ? requiredRoles.vertexProject : []),
    ...(hearsOutputs ? requiredRoles.eventsProject : []),
    ...(dataset === undefined ? [] : requiredRoles.datasetProject),
  ];
}

export const agentEmail = (projectNumber: string): string => `service-${projectNumber}@gcp-sa-aiplatform.iam.gserviceaccount.com`;
export const computeEmail = (projectNumber: string): string => `${projectNumber}-compute@developer.gserviceaccount.com`;

/** Where large payloads lie: beside the folder of jobs, whose objects are deleted after some days. */
export const payloadFolder = (folder: string): string => `${folder}-payloads`;

/** Deletes what jobs leave behind in the folder. */
export function lifecycleRule(
  folder: string,
  days: number,
): { action: { type: string }; condition: { age: number; matchesPrefix: string[] } } {
  return { action: { type: "Delete" }, condition: { age: days, matchesPrefix: [`${folder}/`] } };
}
