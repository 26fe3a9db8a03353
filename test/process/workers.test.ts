import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dropSchema, newSchema } from "../support/postgres-store.ts";
import { testWorkers } from "./workers-suite.ts";

testWorkers({
  name: "one SQLite file",
  signals: true,
  createStore: async () => {
    const folder = mkdtempSync(join(tmpdir(), "gembatch-workers-store-"));
    return { url: `sqlite:${join(folder, "store.db")}`, dispose: async () => rmSync(folder, { recursive: true }) };
  },
});

testWorkers({
  name: "one Postgres schema",
  signals: false,
  createStore: async () => {
    const url = newSchema();
    return { url, dispose: async () => dropSchema(url) };
  },
});
