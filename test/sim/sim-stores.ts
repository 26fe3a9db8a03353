/**
 * The store of a simulation: one in memory, or a real database that each process reaches with an object of its own.
 *
 * @module
 */
import { Pool } from "pg";
import type { Store } from "../../src/core/store.ts";
import { PostgresStore } from "../../src/postgres.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { interceptPort } from "../../src/testing/intercept.ts";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
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

/** A new schema on the server of this URL. Time is the simulation's, and it stands still while the server works. */
export function onPostgres(url: string): SimStores {
  return (world, seed) => {
    const schema = newSchema(url);
    const pool = new Pool({ connectionString: url, max: 8 });
    const random = new SeededRandom(seed);
    const peer = () => {
      const store = new PostgresStore({ pool, schema: schemaOf(schema), databaseTime: false, notify: false, random });
      return interceptPort<Store>(store, "store", {
        call: async (_call, perform) => world.outside(perform()),
        stream: (_call, open) => open(),
      });
    };
    const end = async () => {
      await pool.end();
      await dropSchema(schema);
    };
    return { peer, end };
  };
}
