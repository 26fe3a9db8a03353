/** Clients of an emulator of Firestore. A project that nobody used before is an empty database, which is forgotten with the emulator. */
import { randomBytes } from "node:crypto";
import { Firestore } from "@google-cloud/firestore";

// Nobody is asked for credentials.
process.env["METADATA_SERVER_DETECTION"] ??= "none";

export const newProject = (): string => `t-${randomBytes(6).toString("hex")}`;

/** `host`: as `FIRESTORE_EMULATOR_HOST` has it. */
export function clientOf(host: string, project = newProject()): Firestore {
  const [name = "127.0.0.1", port] = host.split(":");
  return new Firestore({
    projectId: project,
    host: name,
    port: Number(port),
    ssl: false,
    customHeaders: { Authorization: "Bearer owner" },
  });
}
