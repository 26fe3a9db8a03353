/**
 * The store's own document: made, brought up to date or refused.
 */
import { tooNew } from "../store-errors.ts";
import { randomText } from "../../core/clock.ts";
import { GembatchError } from "../../core/errors.ts";
import type { Data, Database } from "./database.ts";
import { foreign } from "./errors.ts";
import type { Settings } from "./options.ts";

/** Version of the format of the documents. A new one migrates what it finds when a store opens. */
export const VERSION = 1;

interface Meta {
  product: string;
  id: string;
  version: number;
  shards: number;
}

/** Makes the collections ours. Returns the store's id. Any number of processes may do this at the same moment. */
export async function openSchema(database: Database): Promise<string> {
  const { settings } = database;
  const ref = database.document("meta", "store");
  const { found } = await database.read([ref], ["product", "id", "version", "shards"]);
  const present = found[0] === undefined ? undefined : check(found[0].data, settings);
  if (present !== undefined && present.shards === settings.shards) return present.id;
  const id = randomText(settings.random, 12);
  return database.write(async ({ transaction }) => {
    const snapshot = await transaction.get(ref);
    if (snapshot.exists) {
      const meta = check(snapshot.data() ?? {}, settings);
      if (meta.shards < settings.shards) transaction.update(ref, { shards: settings.shards });
      return meta.id;
    }
    for (const name of ["runs", "entries", "batches"]) {
      const rows = await transaction.get(database.client.firestore.collection(database.collection(name)).limit(1));
      if (!rows.empty) throw foreign(settings.place);
    }
    transaction.set(ref, { product: "gembatch", id, version: VERSION, shards: settings.shards } satisfies Meta);
    return id;
  });
}

function check(data: Data, { place, shards }: Settings): Meta {
  const { product, id, version, shards: known } = data as Partial<Meta>;
  if (product !== "gembatch" || typeof id !== "string" || typeof version !== "number") throw foreign(place);
  if (version > VERSION) throw tooNew(place, version, VERSION);
  if (known !== undefined && known > shards) {
    throw new GembatchError(
      "invalid_option",
      `The store ${place} has ${known} shards; ${shards} would leave the queues of the others unseen.`,
      {
        hint: `Set option shards to ${known}, or more, for every worker.`,
      },
    );
  }
  return { product, id, version, shards: known ?? 1 };
}
