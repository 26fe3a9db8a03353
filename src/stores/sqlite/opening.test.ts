import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GembatchError } from "../../core/errors.ts";
import { StoreKit, newRun, request } from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";
import { schemaVersion } from "./migrations.ts";
import { SqliteStore, type SqliteStoreOptions, sqliteStore } from "./store.ts";

let folder = "";
let path = "";
const stores: SqliteStore[] = [];
const children: ChildProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "gembatch-sqlite-"));
  path = join(folder, "gembatch.db");
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const store of stores.splice(0)) await store.close();
  await chmod(folder, 0o700);
  await rm(folder, { recursive: true });
});

async function open(options: SqliteStoreOptions = {}): Promise<SqliteStore> {
  const store = new SqliteStore({ path, ...options });
  await store.open();
  stores.push(store);
  return store;
}

async function failureOf(promise: Promise<unknown>): Promise<GembatchError> {
  const thrown: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!GembatchError.is(thrown)) throw new Error(`Expected a GembatchError, got ${String(thrown)}.`);
  return thrown;
}

/** Runs a program as another process; it finds `SqliteStore` and its arguments from `process.argv[1]` on. */
function run(program: string, args: string[], options: SpawnOptions = {}): ChildProcess {
  const source = `import { SqliteStore } from ${JSON.stringify(join(import.meta.dirname, "store.ts"))};\n${program}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source, ...args], {
    stdio: ["ignore", "pipe", "ignore", "ipc"],
    ...options,
  });
  children.push(child);
  return child;
}

/** Opens the store as soon as it is told to, and says its id. */
const openStore = `
  const store = new SqliteStore({ path: process.argv[1] });
  process.once("message", () => {
    void (async () => {
      try {
        await store.open();
        process.send({ id: store.id });
        await store.close();
      } catch (error) {
        process.send({ code: error.code ?? String(error) });
      }
      process.disconnect();
    })();
  });
  process.send("ready");
`;

/** Starts runs and commits turns as fast as it can, says each one that is acknowledged, until it is killed. */
const commitTurns = `
  const store = new SqliteStore({ path: process.argv[1] });
  await store.open();
  const worker = process.argv[2];
  const lane = { provider: "test", model: "m", method: "generateContent" };
  await store.heartbeat({ worker: { id: worker, host: "h", pid: process.pid }, now: 1, leaseMs: 1e9, roles: [], maxAttempts: 99 });
  const request = { lane, body: JSON.stringify("x".repeat(500)), bytes: 500, tokens: 100, priority: 0, maxAttempts: 3 };

  for (let round = 0; ; round += 1) {
    const ids = Array.from({ length: 5 }, (_, i) => [worker, round, i].join("-"));
    await store.startRuns({
      now: round,
      runs: ids.map((id) => ({ id, kind: "chain", chain: worker, version: "1", input: "1", fingerprint: "f", priority: 0 })),
    });
    const runs = await store.claimRuns({ worker, now: round, limit: 5, chains: [{ chain: worker, versions: ["1"] }] });
    const turns = runs.map((run) => ({
      run: run.id,
      epoch: run.epoch,
      seen: 0,
      firstNo: 0,
      entries: [{ key: "q", kind: "request", fingerprint: "f", request }],
      starts: [],
      code: "c",
      notes: [],
      outcome: { type: "waiting" },
    }));
    await store.commitTurns({ worker, now: round, turns });
    console.log(runs.map(({ id }) => id).join(" "));
  }
`;

describe("opening a SQLite store", () => {
  it("makes the file and its folders, and keeps the id", async () => {
    path = join(folder, "a", "b", "gembatch.db");
    const store = await open();
    const { id } = store;
    await store.close();
    expect((await open()).id).toBe(id);
  });

  it("may be opened and closed twice, and is of no use closed", async () => {
    const store = await open();
    await store.open();
    await store.close();
    await store.close();
    expect((await failureOf(store.stats())).code).toBe("closed");
    expect(() => new SqliteStore({ path }).id).toThrow("is not open");
  });

  it("draws its id from the given random numbers", async () => {
    expect((await open({ random: { next: () => 0.5 } })).id).toBe("gggggggggggg");
  });

  it("refuses options that it does not know, or that make no sense", () => {
    expect(() => sqliteStore({ file: "x" } as SqliteStoreOptions)).toThrow("no option file");
    for (const options of [{ path: "" }, { synchronous: "off" }, { busyTimeoutMs: -1 }, { maxBytes: 0 }]) {
      expect(() => sqliteStore(options as SqliteStoreOptions)).toThrow(`Option ${Object.keys(options)[0]}`);
    }
    expect(sqliteStore("x.db").path).toBe("x.db");
  });

  it("is durable by default", async () => {
    await open();
    const database = new DatabaseSync(path);
    expect(database.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
    database.close();
  });

  it("works when several processes open the same new file at once", async () => {
    const processes = Array.from({ length: 4 }, () => run(openStore, [path]));
    await Promise.all(processes.map(async (child) => once(child, "message")));
    const answers = processes.map(async (child) => ((await once(child, "message")) as [{ id?: string; code?: string }])[0]);
    for (const child of processes) child.send("go");
    const ids = (await Promise.all(answers)).map(({ id, code }) => id ?? code);
    expect(new Set(ids)).toEqual(new Set([(await open()).id]));
  });

  it("refuses a store of a newer version, and leaves it as it is", async () => {
    await (await open()).close();
    const database = new DatabaseSync(path);
    database.exec(`PRAGMA user_version = ${schemaVersion() + 1}`);
    database.close();
    const error = await failureOf(open());
    expect([error.code, error.retryable, error.message.includes(path)]).toEqual(["store_too_new", false, true]);
  });

  it.each([1, 2])("refuses a store from before the first release (version %i), and leaves it as it is", async (version) => {
    await (await open()).close();
    const database = new DatabaseSync(path);
    database.exec(`PRAGMA user_version = ${version}`);
    database.close();
    const before = await readFile(path);
    const error = await failureOf(open());
    expect([error.code, error.message]).toEqual(["store_unavailable", expect.stringContaining("before its first release")]);
    expect(await readFile(path)).toEqual(before);
  });

  it("refuses a database of another program, and leaves it as it is", async () => {
    const database = new DatabaseSync(path);
    database.exec("CREATE TABLE recipes (name TEXT)");
    database.close();
    const before = await readFile(path);
    const error = await failureOf(open());
    expect([error.code, error.message]).toEqual(["store_unavailable", expect.stringContaining("another program")]);
    expect(await readFile(path)).toEqual(before);
  });

  it("refuses what is no database, and leaves it as it is", async () => {
    await writeFile(path, "This is not a database, but a text that is long enough to have a header. ".repeat(20));
    const before = await readFile(path);
    expect((await failureOf(open())).code).toBe("store_corrupt");
    expect(await readFile(path)).toEqual(before);
  });

  it("says so when the file is damaged", async () => {
    const kit = new StoreKit(await open());
    await kit.start(...Array.from({ length: 200 }, (_, i) => newRun(`run-${i}`)));
    await kit.store.close();
    const bytes = await readFile(path);
    bytes.fill(0xa5, 4_096);
    await writeFile(path, bytes);
    const error = await failureOf(open().then((store) => store.listRuns({})));
    expect([error.code, error.retryable]).toEqual(["store_corrupt", false]);
  });

  it("says so when there is no way to the file", async () => {
    await writeFile(join(folder, "file"), "");
    path = join(folder, "file", "gembatch.db");
    expect((await failureOf(open())).code).toBe("store_unavailable");
    path = join(folder, "is-a-folder");
    await mkdir(path);
    expect((await failureOf(open())).code).toBe("store_unavailable");
  });

  it("says so when the file may not be written", async (context) => {
    await (await open()).close();
    await chmod(path, 0o444);
    await chmod(folder, 0o555);
    if (process.getuid?.() !== 0) {
      expect((await failureOf(open())).code).toBe("store_read_only");
      return;
    }
    // Root may write everything; another user may not.
    const child = run(openStore, [path], { uid: 65_534, gid: 65_534 });
    const started = await Promise.race([once(child, "message"), once(child, "exit").then(() => undefined)]);
    if (started === undefined) context.skip("another user cannot run this program here");
    child.send("go");
    expect((await once(child, "message"))[0]).toEqual({ code: "store_read_only" });
  });
});

describe("a SQLite store in trouble", () => {
  it("says that the disk is full, loses nothing, and goes on when there is space", async () => {
    const store = await open({ maxBytes: 400_000 });
    const kit = new StoreKit(store);
    let started = 0;
    const start = (): Promise<unknown> =>
      kit.start(...Array.from({ length: 10 }, (_, i) => newRun(`run-${started}-${i}`, { input: JSON.stringify("x".repeat(2_000)) })));
    const error = await failureOf(
      (async () => {
        for (;;) {
          await start();
          started += 10;
        }
      })(),
    );
    expect([error.code, error.retryable, started > 0]).toEqual(["store_full", true, true]);
    expect((await store.stats()).runs.runnable).toBe(started);
    await expectConservation(store, expect);
    await store.close();
    const roomy = new StoreKit(await open());
    await roomy.start(newRun("one more"));
    expect((await roomy.store.stats()).runs.runnable).toBe(started + 1);
  });

  it("waits for another process that writes, and gives up in time", async () => {
    const store = await open({ busyTimeoutMs: 100 });
    const patient = await open({ busyTimeoutMs: 60_000 });
    const kit = new StoreKit(store);
    const other = new DatabaseSync(path);
    other.exec("BEGIN IMMEDIATE");
    const error = await failureOf(kit.start(newRun("a")));
    expect([error.code, error.retryable]).toEqual(["store_locked", true]);
    // Reading and opening need no lock.
    expect(await new StoreKit(await open()).states("a")).toEqual([undefined]);
    const started = patient.startRuns({ now: kit.now, runs: [newRun("a")] });
    setImmediate(() => other.exec("COMMIT"));
    expect(await started).toEqual(["started"]);
    other.close();
  });

  it("undoes a transaction that fails half way, in the file and in memory", async () => {
    const kit = new StoreKit(await open());
    await kit.beat();
    const lane = { provider: "new", model: "new", method: "generateContent" as const };
    await kit.start(newRun("a"));
    const run = await kit.claimOne();
    const good = kit.turn(run, { entries: [request("q", { lane })], outcome: { type: "running" } });
    const bad = { ...good, firstNo: 7 };
    await expect(kit.store.commitTurns({ worker: "w1", now: kit.now, turns: [good, bad] })).rejects.toThrow("went on with number 7");
    expect([await kit.history("a"), (await kit.store.activity({ now: kit.now, chains: [] })).lanes]).toEqual([[], []]);
    await expectConservation(kit.store, expect);
    expect(await kit.commit(run, { entries: [request("q", { lane })] })).toEqual({ state: "waiting", seq: 0 });
    await expectConservation(kit.store, expect);
  });

  it("gives up the claims of a process of this host that is gone, at once", async () => {
    const gone = new Set([11]);
    const kit = new StoreKit(await open({ isProcessAlive: (pid) => !gone.has(pid) }));
    await kit.beat("w1", { host: "here", pid: 11, roles: ["test"] });
    await kit.start(newRun("a"), newRun("b"));
    await kit.claim(1, "w1");
    await kit.beat("w2", { host: "elsewhere", pid: 12 });
    expect(await kit.state("a")).toBe("running");
    await kit.beat("w3", { host: "here", pid: 13 });
    expect(await kit.states("a", "b")).toEqual(["runnable", "runnable"]);
    expect((await kit.claim(1, "w3"))[0]?.attempts).toBe(1);
    gone.add(12);
    await kit.claim(1, "w2");
    expect(await kit.beat("w3", { host: "here", pid: 13, roles: ["test"] })).toEqual(["test"]);
    expect(await kit.states("a", "b")).toEqual(["running", "running"]);
  });

  it("loses no acknowledged turn when its process is killed", async () => {
    const store = await open();
    const acknowledged = new Set<string>();
    for (let round = 0; round < 5; round += 1) {
      const child = run(commitTurns, [path, `w${round}`]);
      let text = "";
      await new Promise<void>((resolve) => {
        child.stdout?.on("data", (chunk: Buffer) => {
          text += chunk.toString();
          if (text.split("\n").length > 3 + round * 7) child.kill("SIGKILL");
        });
        child.once("close", () => resolve());
      });
      const lines = text.split("\n");
      lines.pop();
      for (const id of lines.flatMap((line) => line.split(" "))) acknowledged.add(id);
    }
    expect(acknowledged.size > 100).toBe(true);
    const runs = await store.getRuns({ ids: [...acknowledged] });
    expect(runs.filter((run) => run?.state !== "waiting")).toEqual([]);
    for (const id of acknowledged) expect((await store.listRequests({ run: id })).items.length).toBe(1);
    await expectConservation(store, expect);
  });
});
