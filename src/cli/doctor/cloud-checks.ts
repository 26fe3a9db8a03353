/** Checks of the Google Cloud project and of what is deployed there. */
import { mayWrite, readDataset } from "../google/bigquery.ts";
import type { GoogleClient } from "../google/client.ts";
import { readSecret } from "../google/deployed.ts";
import { isDenied } from "../google/errors.ts";
import { groupOf, listFields, listIndexes, readDatabase } from "../google/firestore.ts";
import { accountPolicy, bucketPolicy, hasGrant, projectPolicy, type PolicyPlace } from "../google/iam.ts";
import type { ServiceStates } from "../google/services.ts";
import { deletesPrefix, readBucket, tryObject } from "../google/storage.ts";
import { deployCommand, gembatchCommand, type GivenOptions, type Invocation } from "../init/commands.ts";
import { agentEmail, apisFor, canListen, defaults, payloadFolder, projectRolesFor, requiredRoles } from "../init/facts.ts";
import { declareDeployed, fieldKey, fieldSettings, indexKey, type DeclaredIndexes } from "../init/indexes-file.ts";
import { payloadsAtRisk } from "../init/payloads.ts";
import type { Settings } from "../init/settings.ts";
import { messageOf } from "../init/steps.ts";
import { failed, ok, warning, type Check, type Found } from "./checks.ts";

export interface CloudCheckContext {
  client: GoogleClient;
  settings: Settings;
  services: ServiceStates;
  invocation: Invocation;
  indexes: DeclaredIndexes;
  /** What the functions run as. */
  account: string;
  /** Whether there is a `gembatchOutput`, or will be. */
  hearsOutputs: boolean;
}

export function cloudChecks(context: CloudCheckContext): Check[] {
  const { settings } = context;
  return [
    apisCheck(context),
    databaseCheck(context),
    indexesCheck(context),
    fieldsCheck(context),
    ...(settings.bucket ? bucketChecks(context, settings.bucket) : []),
    ...(settings.dataset === undefined ? [] : [datasetCheck(context, settings.dataset)]),
    ...roleChecks(context),
    ...(settings.provider === "gemini" ? [secretCheck(context)] : []),
  ];
}

/** `changed`: options instead of those that doctor was given. */
const mendByInit = ({ invocation }: Pick<CloudCheckContext, "invocation">, changed?: GivenOptions) =>
  gembatchCommand(invocation, "init", changed);

function apisCheck({ settings: { project, provider, dataset }, services }: CloudCheckContext): Check {
  return {
    id: "apis",
    title: "APIs",
    look: async () => {
      const wanted = apisFor(provider, dataset !== undefined);
      const missing = wanted.filter((name) => !services.enabled.has(name));
      return missing.length === 0
        ? ok(`all ${wanted.length} are enabled`)
        : failed(`not enabled: ${missing.join(", ")}`, `gcloud services enable --project=${project} ${missing.join(" ")}`);
    },
  };
}

function databaseCheck(context: CloudCheckContext): Check {
  const { client, settings } = context;
  const { project, database, region } = settings;
  return {
    id: "database",
    title: `Firestore database ${database}`,
    look: async () => {
      const found = await readDatabase(client, project, database);
      const create = `gcloud firestore databases create --project=${project} --database="${database}" --location=${region}`;
      if (found === undefined) return failed("does not exist", create);
      if (found.type === "DATASTORE_MODE")
        return failed("is in Datastore mode", `use another one: ${mendByInit(context, { database: "NAME" })}`);
      return ok(`in ${found.locationId}, ${found.databaseEdition === "ENTERPRISE" ? "Enterprise" : "Standard"} edition`);
    },
  };
}

function indexesCheck({ client, settings: { project, database }, invocation, indexes }: CloudCheckContext): Check {
  return {
    id: "indexes",
    title: "indexes of Firestore",
    look: async () => {
      const states = new Map(
        (await listIndexes(client, project, database)).map((index) => [
          indexKey({ collectionGroup: groupOf(index.name), queryScope: index.queryScope ?? "COLLECTION", fields: index.fields ?? [] }),
          index.state,
        ]),
      );
      const notReady = indexes.indexes.filter((index) => states.get(indexKey(index)) !== "READY");
      const building = notReady.filter((index) => states.get(indexKey(index)) === "CREATING");
      const total = indexes.indexes.length;
      if (notReady.length === 0) return ok(`all ${total} are ready`);
      if (building.length === notReady.length) return warning(`${building.length} of ${total} are being built: wait until they are ready`);
      const groups = [...new Set(notReady.map(({ collectionGroup }) => collectionGroup))].join(", ");
      return failed(
        `${notReady.length} of ${total} are not there or need repair, of ${groups}`,
        deployCommand(invocation, "firestore:indexes"),
      );
    },
  };
}

function fieldsCheck({ client, settings: { project, database }, invocation, indexes }: CloudCheckContext): Check {
  return {
    id: "fields",
    title: "field settings and expiry of Firestore",
    look: async () => {
      const deployed = await listFields(client, project, database);
      const found = new Map(declareDeployed([], deployed).fieldOverrides.map((field) => [fieldKey(field), fieldSettings(field)]));
      const wrong = indexes.fieldOverrides.filter((field) => found.get(fieldKey(field)) !== fieldSettings(field));
      if (wrong.length > 0) {
        const names = wrong.slice(0, 3).map(({ collectionGroup, fieldPath }) => `${collectionGroup}.${fieldPath}`);
        return failed(
          `${wrong.length} of ${indexes.fieldOverrides.length} are not as declared: ${names.join(", ")}${wrong.length > 3 ? ", …" : ""}`,
          deployCommand(invocation, "firestore:indexes"),
        );
      }
      const starting = deployed.filter(({ ttlConfig }) => ttlConfig !== undefined && ttlConfig.state !== "ACTIVE");
      return starting.length === 0 ? ok(`all ${indexes.fieldOverrides.length} are as declared`) : warning("expiry is being set up: wait");
    },
  };
}

function bucketChecks(context: CloudCheckContext, { name, folder }: { name: string; folder: string }): Check[] {
  const { client, settings, account } = context;
  const members = [...(settings.provider === "vertex" ? [agentEmail(context.services.number)] : []), account];
  const ours = { id: "bucket", title: `bucket gs://${name}` };
  return [
    {
      ...ours,
      look: async () => {
        const bucket = await readBucket(client, name);
        if (bucket === undefined) return failed("does not exist", mendByInit(context));
        if (!deletesPrefix(bucket, `${folder}/`, Number.MAX_SAFE_INTEGER))
          return warning(`no rule deletes ${folder}/: what jobs leave behind stays, and costs`, mendByInit(context));
        if (!suitsJobs(bucket.location ?? "", settings.location))
          return failed(`is in ${bucket.location}, jobs run in ${settings.location}`, mendByInit(context, { bucket: "NEW-NAME" }));
        if (settings.provider === "vertex" && !canListen(settings.region, bucket.location ?? ""))
          return warning(`is in ${bucket.location}: no function in ${settings.region} can be triggered by it; leave gembatchOutput out`);
        return deletesPrefix(bucket, `${folder}/`, 4)
          ? failed(`a rule deletes ${folder}/ within 4 days, while jobs still need it`, "raise the age of that rule to 8 days")
          : ok(`in ${bucket.location?.toLowerCase()}; ${folder}/ is deleted in time`);
      },
    },
    {
      id: "bucket-payloads",
      title: `large payloads in gs://${name}`,
      look: async () => {
        const bucket = await readBucket(client, name);
        if (bucket === undefined) return { state: "skipped", note: "the bucket does not exist" };
        const risk = payloadsAtRisk(bucket, { name, folder });
        return risk === undefined ? ok(`no rule deletes ${payloadFolder(folder)}/`) : warning(risk.note, risk.mend);
      },
    },
    {
      id: "bucket-object",
      title: `an object in gs://${name}`,
      look: async () => {
        const object = `${folder}/doctor-${client.clock.now()}.txt`;
        try {
          return (await tryObject(client, name, object, "gembatch doctor"))
            ? ok("written, read and deleted")
            : failed("came back with another content", "look at the bucket");
        } catch (error) {
          if (!isDenied(error)) throw error;
          return warning(
            `not with these credentials: ${messageOf(error)}`,
            `give yourself roles/storage.objectAdmin on gs://${name}, or rely on bucket-access`,
          );
        }
      },
    },
    grantCheck({
      id: "bucket-access",
      title: `access to gs://${name}`,
      place: bucketPolicy(client, name),
      members,
      roles: requiredRoles.bucket,
      mend: (email, role) => `gcloud storage buckets add-iam-policy-binding gs://${name} --member=serviceAccount:${email} --role=${role}`,
    }),
  ];
}

/** Jobs of a region need a bucket there; those of `global`, `us` and `eu` take one of anywhere, or within. */
function suitsJobs(place: string, location: string): boolean {
  return !/\d$/.test(location) || place.toLowerCase() === location;
}

function datasetCheck(context: CloudCheckContext, dataset: string): Check {
  const { client, settings, services, account } = context;
  return {
    id: "dataset",
    title: `dataset ${settings.project}.${dataset}`,
    look: async () => {
      const found = await readDataset(client, settings.project, dataset);
      if (found === undefined) return failed("does not exist", mendByInit(context));
      const missing = [agentEmail(services.number), account].filter((email) => !mayWrite(found, email));
      if (missing.length > 0) return failed(`${missing.join(", ")} may not write there`, mendByInit(context));
      if (found.location?.toLowerCase() !== settings.location)
        return failed(
          `is in ${found.location}, jobs run in ${settings.location}`,
          mendByInit(context, { location: found.location?.toLowerCase() }),
        );
      return found.defaultTableExpirationMs === undefined
        ? warning("its tables never expire", mendByInit(context))
        : ok(`in ${found.location}; tables expire`);
    },
  };
}

function roleChecks({ client, settings, account, hearsOutputs }: CloudCheckContext): Check[] {
  const { project } = settings;
  return [
    grantCheck({
      id: "roles",
      title: `roles of ${account}`,
      place: projectPolicy(client, project),
      members: [account],
      roles: projectRolesFor({ ...settings, hearsOutputs }),
      // Who has it may do all of this but call services of Cloud Run and be handed events: the Firebase CLI grants both beside it.
      except: { role: "roles/editor", covers: (role) => role !== "roles/run.invoker" && role !== "roles/eventarc.eventReceiver" },
      mend: (email, role) => `gcloud projects add-iam-policy-binding ${project} --member=serviceAccount:${email} --role=${role}`,
    }),
    grantCheck({
      id: "account",
      title: `role of ${account} on itself`,
      place: accountPolicy(client, project, account),
      members: [account],
      roles: requiredRoles.account,
      mend: (email, role) =>
        `gcloud iam service-accounts add-iam-policy-binding ${email} --project=${project} --member=serviceAccount:${email} --role=${role}`,
    }),
  ];
}

interface GrantCheck {
  id: string;
  title: string;
  place: PolicyPlace;
  members: readonly string[];
  roles: readonly string[];
  /** A wider role that stands for some of them. */
  except?: { role: string; covers: (role: string) => boolean };
  mend: (email: string, role: string) => string;
}

function grantCheck({ id, title, place, members, roles, except, mend }: GrantCheck): Check {
  const look = async (): Promise<Found> => {
    const policy = await place.read();
    const has = (email: string, role: string): boolean => hasGrant(policy, { role, member: `serviceAccount:${email}` });
    const missing = members.flatMap((email) =>
      roles
        .filter((role) => !has(email, role) && !(except !== undefined && except.covers(role) && has(email, except.role)))
        .map((role) => ({ email, role })),
    );
    if (missing.length === 0) return ok(roles.join(", "));
    const named = missing.map(({ email, role }) => (title.includes(email) ? role : `${role} of ${email}`)).join(", ");
    return failed(`missing: ${named}`, missing.map(({ email, role }) => mend(email, role)).join(" && "));
  };
  return { id, title, look };
}

function secretCheck({ client, settings: { project } }: CloudCheckContext): Check {
  return {
    id: "secret",
    title: `secret ${defaults.secret}`,
    look: async () => {
      const version = await readSecret(client, project, defaults.secret);
      return version?.state === "ENABLED"
        ? ok("has a value")
        : failed(
            version === undefined ? "does not exist" : `its newest version is ${version.state}`,
            `firebase functions:secrets:set ${defaults.secret} --project ${project}`,
          );
    },
  };
}
