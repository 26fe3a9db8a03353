import { createFileStore } from "../../../test/support/sqlite-store.ts";
import { describe, expect, it } from "vitest";
import { testStore } from "../../testing/store-conformance.ts";
import { SqliteStore } from "./store.ts";
import { isThorough } from "../../../test/support/thorough.ts";

testStore(
  { describe, it, expect },
  {
    name: "SQLite, in a file",
    walks: isThorough ? 4 : 2,
    createStore: () => createFileStore((path) => new SqliteStore({ path })),
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
