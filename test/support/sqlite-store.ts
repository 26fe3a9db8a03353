import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Store } from "../../src/core/store.ts";
import { subjectOf } from "./store-subject.ts";

/** What the conformance suite asks for, over a SQLite file in a folder of its own: `make` says what store lies over the file, each time that one is opened. */
export async function createFileStore(make: (path: string) => Store) {
  const folder = await mkdtemp(join(tmpdir(), "gembatch-store-"));
  return subjectOf({
    open: async () => {
      const store = make(join(folder, "gembatch.db"));
      await store.open();
      return store;
    },
    dispose: async () => rm(folder, { recursive: true }),
  });
}
