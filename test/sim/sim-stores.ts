/**
 * The store of a simulation: one in memory, or a real database that each process reaches with an object of its own.
 *
 * @module
 */
import { Pool } from "pg";
import type { Store } from "../../src/core/store.ts";
import { PostgresStore } from "../../src/postgres.ts";
import { FirestoreStore } from "../../src/stores/firestore/store.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { interceptPort } from "../../src/testing/intercept.ts";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { clientOf } from "../support/firestore-client.ts";
import { dropSchema, newSchema, schemaOf } from "../support/postgres-store.ts";
import type { World } from "./world.ts";

export interface SimStore {
  /** The store as one more process finds it. Not open yet. */
  peer(): Store;
  /** Removes it. */
  end(): Promise<void>;
}

export type SimStores = (world: World, seed: number) => SimStore;

/** All processes share one object: its calls take no time at all. */
export const inMemory: SimStores = (_world, seed) => {
  const store = new SqliteStore({ path: ":memory:", synchronous: "normal", random: new SeededRandom(seed) });
  return { peer: () => store, end: async () => store.close() };
};

/** A store whose calls take time of the real world, during which that of the simulation stands still. */
const outside = (world: World, store: Store): Store =>
  interceptPort(store, "store", { call: async (_call, perform) => world.outside(perform()), stream: (_call, open) => open() });

/** A new schema on the server of this URL. Time is the simulation's. */
export function onPostgres(url: string): SimStores {
  return (world, seed) => {
    const schema = newSchema(url);
    const pool = new Pool({ connectionString: url, max: 8, pipeline: true });
    const random = new SeededRandom(seed);
    const peer = () => outside(world, new PostgresStore({ pool, schema: schemaOf(schema), databaseTime: false, notify: false, random }));
    const end = async () => {
      await pool.end();
      await dropSchema(schema);
    };
    return { peer, end };
  };
}

/** A new project in the emulator at this address. Time is the simulation's. */
export function onFirestore(host: string): SimStores {
  return (world, seed) => {
    const firestore = clientOf(host);
    const random = new SeededRandom(seed);
    return {
      peer: () => outside(world, new FirestoreStore({ firestore, serverTime: false, random })),
      end: async () => firestore.terminate(),
    };
  };
}
