/** One Postgres and one Firestore emulator for all tests of a run; each test takes a schema, or a project, of its own in it. */
import type { TestProject } from "vitest/node";
import { startFirestore } from "./firestore-emulator.ts";
import { startPostgres } from "./postgres-server.ts";

declare module "vitest" {
  export interface ProvidedContext {
    postgresUrl: string;
    /** Where the emulator is, or why there is none. */
    firestoreEmulator: { host?: string; missing?: string };
  }
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [server, emulator] = await Promise.all([startPostgres(), startFirestore()]);
  project.provide("postgresUrl", server.url);
  if (typeof emulator === "string") process.stderr.write(`Tests of the Firestore store are left out. ${emulator}\n`);
  project.provide("firestoreEmulator", typeof emulator === "string" ? { missing: emulator } : { host: emulator.host });
  return async () => {
    await server.stop();
    if (typeof emulator !== "string") await emulator.stop();
  };
}
