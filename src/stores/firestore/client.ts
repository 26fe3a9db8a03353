/**
 * Firestore's own client, loaded when a store opens: a function that never does pays nothing for it.
 */
import type { FieldValue, Firestore } from "@google-cloud/firestore";
import { GembatchError } from "../../core/errors.ts";
import type { FirebaseApp, Settings } from "./options.ts";

export interface Client {
  firestore: Firestore;
  /** Of the same copy of the package: a client refuses sentinels of another one. */
  values: typeof FieldValue;
  /** Ends it, if it is our own. */
  end: () => Promise<void>;
}

/** The client that was given, that of an app, or one of our own for a project. */
export async function makeClient(settings: Settings): Promise<Client> {
  const { app, projectId, databaseId = "(default)" } = settings;
  if (settings.firestore !== undefined) return adopt(settings.firestore);
  const admin = await load(() => import("firebase-admin/firestore"));
  if (admin !== undefined && projectId === undefined) {
    return { firestore: admin.getFirestore(app ?? (await defaultApp()), databaseId), values: admin.FieldValue, end: async () => undefined };
  }
  const library = admin ?? (await load(() => import("@google-cloud/firestore")));
  if (library === undefined || app !== undefined) throw missing();
  const firestore = new library.Firestore({ databaseId, ...(projectId !== undefined && { projectId }) });
  return { firestore, values: library.FieldValue, end: async () => firestore.terminate() };
}

async function defaultApp(): Promise<FirebaseApp> {
  const { getApps, initializeApp } = await import("firebase-admin/app");
  return getApps().find(({ name }) => name === "[DEFAULT]") ?? initializeApp();
}

/** A client of the user's, with the sentinels of whichever package it comes from. */
async function adopt(given: object): Promise<Client> {
  const end = async (): Promise<void> => undefined;
  const own = await load(() => import("@google-cloud/firestore"));
  if (own !== undefined && given instanceof own.Firestore) return { firestore: given, values: own.FieldValue, end };
  const admin = await load(() => import("firebase-admin/firestore"));
  if (admin !== undefined && given instanceof admin.Firestore) {
    return { firestore: given, values: admin.FieldValue, end };
  }
  if (own === undefined && admin === undefined) throw missing();
  throw new GembatchError("invalid_option", "Option firestore of the Firestore store is a client of another copy of its package.", {
    hint: "Install firebase-admin or @google-cloud/firestore once (npm ls @google-cloud/firestore), or pass an app instead.",
  });
}

async function load<T>(module: () => Promise<T>): Promise<T | undefined> {
  try {
    return await module();
  } catch (thrown) {
    const { code } = thrown as { code?: unknown };
    if (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") return undefined;
    throw thrown;
  }
}

function missing(): GembatchError {
  return new GembatchError("invalid_option", "The Firestore store needs the package firebase-admin, which is not installed.", {
    hint: "npm install firebase-admin",
  });
}
