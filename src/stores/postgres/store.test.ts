import { afterAll, describe, expect, it } from "vitest";
import { Schemas } from "../../../test/support/postgres-schemas.ts";
import { testStore } from "../../testing/store-conformance.ts";
import type { PostgresStore } from "./store.ts";
import { isThorough } from "../../../test/support/thorough.ts";

const schemas = new Schemas();
afterAll(() => schemas.end());

testStore(
  // Side by side: each waits for the server half of its time.
  { describe, it: it.concurrent, expect },
  {
    name: "Postgres",
    walks: isThorough ? 4 : 2,
    async createStore() {
      const schema = await schemas.take();
      const opened: PostgresStore[] = [];
      const open = async (): Promise<PostgresStore> => {
        const store = await schemas.open(schema);
        opened.push(store);
        return store;
      };
      const store = await open();
      return {
        store,
        peer: open,
        async reopen() {
          await store.close();
          return open();
        },
        async dispose() {
          for (const item of opened) await item.close();
          await schemas.giveBack(schema);
        },
      };
    },
  },
);
