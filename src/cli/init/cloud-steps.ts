/**
 * The steps that change the Google Cloud project.
 *
 * @module
 */
import { createDataset, mayWrite, openDataset, readDataset } from "../google/bigquery.ts";
import type { GoogleClient } from "../google/client.ts";
import { readSecret } from "../google/deployed.ts";
import { isDenied, isDisabled, isNotFound } from "../google/errors.ts";
import { readDatabase } from "../google/firestore.ts";
import { accountPolicy, addGrants, bucketPolicy, hasGrant, projectPolicy, type Grant, type PolicyPlace } from "../google/iam.ts";
import { enableServices, generateIdentity, type ServiceStates } from "../google/services.ts";
import { addLifecycleRule, createBucket, deletesPrefix, readBucket } from "../google/storage.ts";
import { agentApi, agentEmail, apisFor, computeEmail, dayMs, defaults, lifecycleRule, projectRolesFor, requiredRoles } from "./facts.ts";
import type { Settings } from "./settings.ts";
import { messageOf, type Finding, type Step } from "./steps.ts";

export interface CloudContext {
  client: GoogleClient;
  settings: Settings;
  services: ServiceStates;
}

/** How long an API that was just enabled may go on refusing. */
const propagationMs = 3 * 60_000;
/** How long a service agent that was just made may be unknown. */
const identityMs = 60_000;

export function planCloud(context: CloudContext): Step[] {
  const { settings } = context;
  return [
    apisStep(context),
    databaseStep(context),
    ...(settings.bucket ? bucketSteps(context, settings.bucket) : []),
    ...(settings.dataset === undefined ? [] : datasetSteps(context, settings.dataset)),
    ...roleSteps(context),
    ...(settings.provider === "gemini" ? [secretStep(context)] : []),
  ];
}

function apisStep({ client, settings: { project, provider, dataset }, services }: CloudContext): Step {
  const wanted = apisFor(provider, dataset !== undefined);
  const missing = wanted.filter((name) => !services.enabled.has(name));
  return {
    id: "apis",
    area: "cloud",
    title: `APIs of ${project}`,
    look: async () =>
      missing.length === 0
        ? { state: "already", note: `all ${wanted.length} are enabled` }
        : { state: "planned", note: `enables ${missing.join(", ")}` },
    apply: async () => {
      await enableServices(client, project, missing);
      client.expectPropagation(propagationMs);
    },
  };
}

function databaseStep({ client, settings: { project, database, region } }: CloudContext): Step {
  return {
    id: "database",
    area: "cloud",
    title: `Firestore database ${database}`,
    look: () =>
      lookAt(
        async () => {
          const found = await readDatabase(client, project, database);
          if (found === undefined || found.type === "DATASTORE_MODE") {
            // Its location can never be changed, so it is for a person to choose.
            const command = `gcloud firestore databases create --project=${project} --database="${database}" --location=${region}`;
            return found === undefined
              ? { state: "by hand", note: "there is none; its place can never be changed, so choose it", show: command }
              : { state: "by hand", note: "is in Datastore mode: use another with --database NAME" };
          }
          const edition = found.databaseEdition === "ENTERPRISE" ? "Enterprise" : "Standard";
          return { state: "already", note: `in ${found.locationId}, ${edition} edition` };
        },
        { state: "by hand", note: "cannot be seen before the APIs are enabled: see to it that there is one" },
      ),
    apply: async () => {},
  };
}

function bucketSteps(context: CloudContext, { name, folder }: { name: string; folder: string }): Step[] {
  const { client, settings } = context;
  const { project, days, storageLocation } = settings;
  const rule = lifecycleRule(folder, days);
  const members = accounts(context).map((email) => `serviceAccount:${email}`);
  const grants = requiredRoles.bucket.flatMap((role) => members.map((member) => ({ role, member })));
  const kept = `${folder}/ is deleted after ${days} days`;
  const made: Finding = { state: "planned", note: `makes it in ${storageLocation}: uniform access, nothing public; ${kept}` };
  return [
    {
      id: "bucket",
      area: "cloud",
      title: `bucket gs://${name}`,
      needs: ["apis"],
      look: () =>
        lookAt(async () => {
          const bucket = await readBucket(client, name);
          if (bucket === undefined) return made;
          const isOurs = bucket.projectNumber === undefined || bucket.projectNumber === context.services.number;
          const where = `in ${bucket.location?.toLowerCase()}${isOurs ? "" : ", of another project"}`;
          return deletesPrefix(bucket, `${folder}/`, days)
            ? { state: "already", note: `${where}; ${kept}` }
            : { state: "planned", note: `is ${where}; adds a rule: ${kept}` };
        }, made),
      apply: async () => {
        if ((await readBucket(client, name)) === undefined) await createBucket(client, project, { name, location: storageLocation, rule });
        else await addLifecycleRule(client, name, rule, (bucket) => deletesPrefix(bucket, `${folder}/`, days));
      },
    },
    grantStep(client, {
      id: "bucket-access",
      title: `access to gs://${name}`,
      needs: ["apis", "bucket"],
      place: bucketPolicy(client, name),
      grants,
      before: () => makeAgent(context),
    }),
  ];
}

function datasetSteps(context: CloudContext, dataset: string): Step[] {
  const { client, settings } = context;
  const { project, storageLocation } = settings;
  const expirationMs = defaults.tableDays * dayMs;
  const writers = accounts(context);
  const made: Finding = {
    state: "planned",
    note: `makes it in ${storageLocation}: tables are deleted after ${defaults.tableDays} days; grants ${writers.join(", ")}`,
  };
  return [
    {
      id: "dataset",
      area: "cloud",
      title: `dataset ${project}.${dataset}`,
      needs: ["apis"],
      look: () =>
        lookAt(async () => {
          const found = await readDataset(client, project, dataset);
          if (found === undefined) return made;
          const missing = writers.filter((email) => !mayWrite(found, email));
          const notes = [
            ...(found.defaultTableExpirationMs === undefined ? [`deletes tables after ${defaults.tableDays} days`] : []),
            ...(missing.length === 0 ? [] : [`grants ${missing.join(", ")}`]),
          ];
          return notes.length === 0
            ? { state: "already", note: `in ${found.location}; tables expire; ${writers.length} accounts may write` }
            : { state: "planned", note: notes.join("; ") };
        }, made),
      apply: async () => {
        await makeAgent(context);
        if ((await readDataset(client, project, dataset)) === undefined)
          await createDataset(client, project, { dataset, location: storageLocation, expirationMs });
        await openDataset(client, project, dataset, { writers, expirationMs });
      },
    },
  ];
}

function roleSteps(context: CloudContext): Step[] {
  const { client, settings } = context;
  const { project } = settings;
  const email = runtimeAccount(context);
  const member = `serviceAccount:${email}`;
  return [
    grantStep(client, {
      id: "roles",
      title: `roles of ${email} on ${project}`,
      needs: ["apis"],
      place: projectPolicy(client, project),
      grants: projectRolesFor(settings).map((role) => ({ role, member })),
    }),
    grantStep(client, {
      id: "account",
      title: `role of ${email} on itself`,
      needs: ["apis"],
      place: accountPolicy(client, project, email),
      grants: requiredRoles.account.map((role) => ({ role, member })),
    }),
  ];
}

function grantStep(
  client: GoogleClient,
  {
    id,
    title,
    needs,
    place,
    grants,
    before,
  }: { id: string; title: string; needs: readonly string[]; place: PolicyPlace; grants: readonly Grant[]; before?: () => Promise<void> },
): Step {
  const describeGrants = (some: readonly Grant[]): string =>
    [...Map.groupBy(some, ({ role }) => role)]
      .map(([role, list]) => {
        const members = list.map(({ member }) => member.replace("serviceAccount:", ""));
        return title.includes(members[0]!) ? role : `${role} to ${members.join(", ")}`;
      })
      .join(", ");
  const planned = (some: readonly Grant[]): Finding => ({ state: "planned", note: `grants ${describeGrants(some)}` });
  return {
    id,
    area: "cloud",
    title,
    needs,
    look: () =>
      lookAt(async () => {
        const policy = await place.read();
        const missing = grants.filter((grant) => !hasGrant(policy, grant));
        return missing.length === 0 ? { state: "already", note: describeGrants(grants) } : planned(missing);
      }, planned(grants)),
    apply: async () => {
      await before?.();
      await addGrants(client, place, grants);
    },
  };
}

function secretStep({ client, settings: { project } }: CloudContext): Step {
  return {
    id: "secret",
    area: "cloud",
    title: `secret ${defaults.secret}`,
    look: () =>
      lookAt(async () => {
        const version = await readSecret(client, project, defaults.secret);
        return version?.state === "ENABLED" ? { state: "already", note: "has a value" } : keyByHand(project);
      }, keyByHand(project)),
    apply: async () => {},
  };
}

const keyByHand = (project: string): Finding => ({
  state: "by hand",
  note: "the key of the Gemini API is yours to enter",
  show: `firebase functions:secrets:set ${defaults.secret} --project ${project}`,
});

/** What cannot be seen yet is taken as missing: doing it again changes nothing. */
async function lookAt(look: () => Promise<Finding>, unseen: Finding): Promise<Finding> {
  try {
    return await look();
  } catch (error) {
    if (isDisabled(error) || isNotFound(error)) return unseen;
    if (isDenied(error)) return { ...unseen, note: `${unseen.note}; cannot be seen: ${messageOf(error)}` };
    throw error;
  }
}

/** What the functions run as. */
export function runtimeAccount({ settings, services }: Pick<CloudContext, "settings" | "services">): string {
  return settings.serviceAccount ?? computeEmail(services.number);
}

/** Who reads and writes inputs and outputs of jobs, and large payloads. */
function accounts(context: CloudContext): string[] {
  const { settings, services } = context;
  return [...(settings.provider === "vertex" ? [agentEmail(services.number)] : []), runtimeAccount(context)];
}

async function makeAgent({ client, settings }: CloudContext): Promise<void> {
  if (settings.provider !== "vertex") return;
  await generateIdentity(client, settings.project, agentApi);
  client.expectPropagation(identityMs);
}
