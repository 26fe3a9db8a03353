/**
 * Google's own Firestore emulator for tests: the one of `FIRESTORE_EMULATOR_HOST`, else one of our own from an installed Cloud SDK, else from the download of firebase-tools.
 *
 * @module
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { connect } from "node:net";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { promisify } from "node:util";
import { freePort } from "./free-port.ts";

export interface FirestoreEmulator {
  /** `127.0.0.1:PORT`, as `FIRESTORE_EMULATOR_HOST` has it. */
  host: string;
  /** Ends it. One that somebody else runs is left alone. */
  stop(): Promise<void>;
}

/** Starts one, or finds one. A text says why there is none. */
export async function startFirestore({ port, own = false }: { port?: number; own?: boolean } = {}): Promise<FirestoreEmulator | string> {
  const given = process.env["FIRESTORE_EMULATOR_HOST"];
  if (given !== undefined && given !== "" && !own) return { host: given, stop: async () => undefined };
  const jar = (await findInCloudSdk()) ?? findDownload();
  if (jar === undefined) {
    return "No Firestore emulator: install the Cloud SDK with its component cloud-firestore-emulator, or run `firebase setup:emulators:firestore`, or set FIRESTORE_EMULATOR_HOST.";
  }
  for (let tries = 1; ; tries += 1) {
    try {
      return await launch(jar, port ?? (await freePort()));
    } catch (thrown) {
      const { message } = thrown as Error;
      // A port that was free a moment ago: another server was quicker.
      if (port === undefined && tries < 5 && message.includes("Address already in use")) continue;
      return `The Firestore emulator did not start: ${message}`;
    }
  }
}

async function launch(jar: string, chosen: number): Promise<FirestoreEmulator> {
  const flags = ["-Duser.language=en", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
  const program = ["-cp", jar, "com.google.cloud.datastore.emulator.firestore.CloudFirestore", "start"];
  const server = spawn("java", [...flags, ...program, "--host=127.0.0.1", `--port=${chosen}`], { stdio: ["ignore", "pipe", "pipe"] });
  const end = () => server.kill("SIGKILL");
  process.once("exit", end);
  try {
    await isReady(server, chosen);
  } catch (thrown) {
    process.removeListener("exit", end);
    end();
    throw thrown;
  }
  return {
    host: `127.0.0.1:${chosen}`,
    async stop() {
      process.removeListener("exit", end);
      if (server.exitCode !== null || server.signalCode !== null) return;
      const ended = once(server, "exit");
      server.kill("SIGKILL");
      await ended;
    },
  };
}

/** Starts or finds one, or throws. */
export async function neededFirestore(): Promise<FirestoreEmulator> {
  const emulator = await startFirestore();
  if (typeof emulator === "string") throw new Error(emulator);
  return emulator;
}

async function isReady(server: ChildProcess, port: number): Promise<void> {
  let log = "";
  let failed: Error | undefined;
  for (const stream of [server.stdout, server.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => (log = (log + text).slice(-4_000)));
  server.once("error", (error) => (failed = error));
  server.once("exit", (code) => (failed ??= new Error(`java ended with ${code}: ${log}`)));
  for (let tries = 0; tries < 300; tries += 1) {
    if (failed !== undefined) throw failed;
    if (/is now running/.test(log) && (await answers(port))) return;
    await wait(100);
  }
  throw new Error(`it does not answer: ${log}`);
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** The jar in an installed Cloud SDK: beside the program `gcloud`, or where that says that its SDK is. */
async function findInCloudSdk(): Promise<string | undefined> {
  const gcloud = (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((folder) => join(folder, "gcloud"))
    .find((path) => existsSync(path));
  if (gcloud === undefined) return undefined;
  const beside = jarOf(dirname(dirname(realpathSync(gcloud))));
  if (beside !== undefined) return beside;
  try {
    const { stdout } = await promisify(execFile)(gcloud, ["info", "--format=value(installation.sdk_root)"], { timeout: 20_000 });
    return jarOf(stdout.trim());
  } catch {
    return undefined;
  }
}

function jarOf(sdk: string): string | undefined {
  const jar = join(sdk, "platform", "cloud-firestore-emulator", "cloud-firestore-emulator.jar");
  return existsSync(jar) ? jar : undefined;
}

/** The newest download of firebase-tools. */
function findDownload(): string | undefined {
  const folder = join(homedir(), ".cache", "firebase", "emulators");
  if (!existsSync(folder)) return undefined;
  const jars = readdirSync(folder).filter((name) => /^cloud-firestore-emulator.*\.jar$/.test(name));
  const newest = jars.toSorted((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1);
  return newest === undefined ? undefined : join(folder, newest);
}
