/** Stores of their own in the emulator of the test run. Each test has a project of its own, which is empty and is forgotten with the emulator. */
import type { Firestore } from "@google-cloud/firestore";
import { describe, inject } from "vitest";
import { type FirestoreStoreOptions, FirestoreStore } from "../../src/stores/firestore/store.ts";
import { clientOf, newProject } from "./firestore-client.ts";

const { host, missing } = inject("firestoreEmulator");

const isRequired = (process.env["CI"] ?? "") !== "";

/** `describe` for tests that need the emulator. Without one they are left out, which the setup says; on CI they fail. */
export const describeFirestore = ifThere(describe);

function ifThere(group: typeof describe): typeof describe {
  return group.skipIf(host === undefined && !isRequired) as typeof describe;
}

/** A client of an empty database. */
export function newClient(project = newProject(), at = host): Firestore {
  if (at === undefined && isRequired) throw new Error(missing);
  return clientOf(at ?? "127.0.0.1:1", project);
}

/** A store on it, open. Time is what a test says, unless it says otherwise. */
export async function openStore(firestore: Firestore, options: FirestoreStoreOptions = {}): Promise<FirestoreStore> {
  const store = new FirestoreStore({ firestore, serverTime: false, ...options });
  await store.open();
  return store;
}
