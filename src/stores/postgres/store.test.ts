import { afterAll, describe, expect, it } from "vitest";
import { Schemas } from "../../../test/support/postgres-schemas.ts";
import { testStore } from "../../testing/store-conformance.ts";
import type { PostgresStore } from "./store.ts";

const schemas = new Schemas();
afterAll(() => schemas.end());

testStore(
  { describe, it, expect },
  {
    name: "Postgres",
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
