import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { testStore } from "../../testing/store-conformance.ts";
import { SqliteStore } from "./store.ts";

testStore(
  { describe, it, expect },
  {
    name: "SQLite, in a file",
    async createStore() {
      const folder = await mkdtemp(join(tmpdir(), "gembatch-store-"));
      const opened: SqliteStore[] = [];
      const open = async (): Promise<SqliteStore> => {
        const store = new SqliteStore({ path: join(folder, "gembatch.db") });
        await store.open();
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
          await rm(folder, { recursive: true });
        },
      };
    },
  },
);

testStore(
  { describe, it, expect },
  {
    name: "SQLite, in memory",
    without: { peers: "a store in memory belongs to one connection", reopening: "it is gone when it is closed" },
    async createStore() {
      const store = new SqliteStore({ path: ":memory:" });
      await store.open();
      return { store, dispose: () => store.close() };
    },
  },
);
