import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Store } from "../../src/core/store.ts";

/** What the conformance suite asks for, over a SQLite file in a folder of its own: `make` says what store lies over the file, each time that one is opened. */
export async function createFileStore(make: (path: string) => Store) {
  const folder = await mkdtemp(join(tmpdir(), "gembatch-store-"));
  const opened: Store[] = [];
  const open = async (): Promise<Store> => {
    const store = make(join(folder, "gembatch.db"));
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
}
