/** The stores that the whole-chain tests run over. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inject } from "vitest";
import type { Store } from "../../src/index.ts";
import { FirestoreStore } from "../../src/stores/firestore/store.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { newClient } from "../support/firestore-store.ts";

/** A place for one test's data. Every call of `connect` is a process of its own. */
export interface StoreKind {
  connect(): Store;
  remove(): Promise<void> | void;
}

function sqlite(): StoreKind {
  const folder = mkdtempSync(join(tmpdir(), "gembatch-functions-"));
  return {
    connect: () => new SqliteStore({ path: join(folder, "store.db"), synchronous: "normal" }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function firestore(): StoreKind {
  const client = newClient();
  return {
    connect: () => new FirestoreStore({ firestore: client, serverTime: false }),
    remove: () => client.terminate(),
  };
}

const { host, missing } = inject("firestoreEmulator");
const onCi = process.env["CI"] !== undefined && process.env["CI"] !== "";
const noEmulator = (): StoreKind => {
  throw new Error(missing);
};

/** Firestore is left out where there is no emulator (the setup of the run says so), and fails there on CI. */
export const storeKinds: readonly { name: string; open: () => StoreKind }[] = [
  { name: "SQLite", open: sqlite },
  ...(host === undefined ? (onCi ? [{ name: "Firestore", open: noEmulator }] : []) : [{ name: "Firestore", open: firestore }]),
];
