import { createServer, connect, type Server, type Socket } from "node:net";
import type { Firestore } from "@google-cloud/firestore";
import { deleteApp, getApps, initializeApp } from "firebase-admin/app";
import { getFirestore } from "firebase-admin/firestore";
import { afterEach, beforeEach, describe, expect, inject, it, onTestFinished, vi } from "vitest";
import { newProject } from "../../../test/support/firestore-client.ts";
import { describeFirestore, newClient, openStore } from "../../../test/support/firestore-store.ts";
import { newRun, StoreKit } from "../../testing/store-kit.ts";
import { declared, firestoreIndexes } from "./indexes.ts";
import { specs } from "./rows.ts";
import { firestore } from "./store.ts";

let client: Firestore;
beforeEach(() => {
  client = newClient();
});
afterEach(async () => client.terminate());

describe("options of the Firestore store", () => {
  it.each([
    [{ prefx: "x" }, "prefx"],
    [{ prefix: "1/2" }, "prefix"],
    [{ shards: 0 }, "shards"],
    [{ shards: 1.5 }, "shards"],
    [{ patienceMs: -1 }, "patienceMs"],
    [{ firestore: {} }, "firestore"],
    [{ serverTime: "yes" }, "serverTime"],
    [{ app: { name: "a", options: {} }, projectId: "p" }, "app"],
  ])("%j is refused", (options, named) => {
    expect(() => firestore(options as object)).toThrow(
      expect.objectContaining({ code: "invalid_option", message: expect.stringContaining(named) as string }),
    );
  });

  it("a store that is not open says so", () => {
    expect(() => firestore().id).toThrow(expect.objectContaining({ code: "closed" }));
  });
});

describe("the declaration of indexes", () => {
  it("is for the prefix, names each index and each exemption once, and one TTL", () => {
    const { indexes, fieldOverrides } = firestoreIndexes("app");
    for (const { collectionGroup } of [...indexes, ...fieldOverrides]) expect(collectionGroup).toMatch(/^app_/);
    const names = fieldOverrides.map(({ collectionGroup, fieldPath }) => `${collectionGroup}.${fieldPath}`);
    expect(new Set(names).size).toBe(names.length);
    expect(new Set(indexes.map((index) => JSON.stringify(index))).size).toBe(indexes.length);
    expect(fieldOverrides.filter(({ ttl }) => ttl).map(({ fieldPath }) => fieldPath)).toEqual(["gone_at"]);
    // Firestore takes 200 of these in a database.
    expect(names.length).toBeLessThan(100);
  });
});

describe("fields that queries look for", () => {
  const rows: Record<string, object> = {
    runs: {
      no: "r".repeat(31),
      chain: "c",
      version: "1",
      waiters: ["x 0"],
      state: 0,
      ended_at: 1,
      retry_at: 1,
      worker: "w",
      starter: "s",
      reference: "x",
    },
    entries: { no: `${"r".repeat(31)}-0000`, state: 8, kind: 0, lane: "l", batch: "b", seq: 1, check_at: 1, reference: "x", group_size: 2 },
    batches: { state: 0, worker: "w", sweep_at: 1, order: "o", due_at: 1 },
    shared: { expires_at: 1, pending: 1, reference: "x" },
  };
  it("are indexed or exempted, each of them", () => {
    const { fieldOverrides } = firestoreIndexes("p");
    const names = new Set(fieldOverrides.map(({ collectionGroup, fieldPath }) => `${collectionGroup}.${fieldPath}`));
    const missing = Object.values(specs).flatMap(({ collection, fields }) => {
      const found = (fields as (row: object, shards: number) => object)(rows[collection] ?? {}, 1);
      return ["d", ...Object.keys(found)].map((field) => `p_${collection}.${field}`).filter((name) => !names.has(name));
    });
    expect(missing).toEqual([]);
  });

  it("have plain indexes on the Enterprise edition, and no exemptions", () => {
    const { indexes, fieldOverrides } = firestoreIndexes("p", "enterprise");
    expect(fieldOverrides.map(({ ttl }) => ttl)).toEqual([true]);
    expect(indexes).toHaveLength(Object.values(declared).flat().length);
    expect(new Set(indexes.map(({ density }) => density))).toEqual(new Set(["SPARSE_ANY"]));
  });
});

describeFirestore("opening a Firestore store", () => {
  it("ten at once make one store", async () => {
    const stores = await Promise.all(Array.from({ length: 10 }, () => openStore(client)));
    expect(new Set(stores.map(({ id }) => id)).size).toBe(1);
  });

  it("prefixes are stores of their own in one database", async () => {
    const [one, other] = [await openStore(client), await openStore(client, { prefix: "other" })];
    expect(one.id).not.toBe(other.id);
    await new StoreKit(one).start(newRun("a"));
    expect((await other.listRuns({})).items).toEqual([]);
  });

  it("a newer store, one of somebody else and one with more shards are refused and left alone", async () => {
    await client.doc("newer_meta/store").set({ product: "gembatch", id: "abc", version: 99, shards: 1 });
    await expect(openStore(client, { prefix: "newer" })).rejects.toMatchObject({ code: "store_too_new" });
    await client.doc("foreign_runs/x").set({ mine: true });
    await expect(openStore(client, { prefix: "foreign" })).rejects.toMatchObject({ code: "store_unavailable" });
    await client.doc("odd_meta/store").set({ some: "thing" });
    await expect(openStore(client, { prefix: "odd" })).rejects.toMatchObject({ code: "store_unavailable" });
    await openStore(client, { prefix: "wide", shards: 3 });
    await expect(openStore(client, { prefix: "wide", shards: 2 })).rejects.toMatchObject({ code: "invalid_option" });
    expect((await client.doc("foreign_meta/store").get()).exists).toBe(false);
  });

  it("by an app of firebase-admin, given or found; and by time of the server", async () => {
    const { host } = inject("firestoreEmulator");
    const projectId = newProject();
    vi.stubEnv("FIRESTORE_EMULATOR_HOST", host);
    vi.stubEnv("GOOGLE_CLOUD_PROJECT", projectId);
    onTestFinished(async () => {
      vi.unstubAllEnvs();
      await Promise.all(getApps().map(async (app) => deleteApp(app)));
    });
    const app = initializeApp({ projectId }, "given");
    const stores = [firestore({ app }), firestore({ projectId }), firestore({ firestore: getFirestore(app) }), firestore()];
    for (const store of stores) await store.open();
    expect(new Set(stores.map(({ id }) => id)).size).toBe(1);
    const worker = { id: "w", host: "h", pid: 1 };
    const { time } = (await stores[0]?.heartbeat({ worker, now: 5, leaseMs: 1_000, roles: [], maxAttempts: 3 })) ?? {};
    expect(Math.abs((time ?? 0) - Date.now())).toBeLessThan(60_000);
    for (const store of stores) await store.close();
  });
});

/** The way to the emulator, that can be cut. */
class Line {
  open = true;
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  constructor(host: string) {
    const [name = "", port] = host.split(":");
    this.#server = createServer((socket) => {
      if (!this.open) {
        socket.destroy();
        return;
      }
      const other = connect({ host: name, port: Number(port) });
      for (const [from, to] of [
        [socket, other],
        [other, socket],
      ] as const) {
        this.#sockets.add(from);
        from.on("error", () => to.destroy());
        from.on("close", () => to.destroy());
        from.pipe(to);
      }
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const address = this.#server.address();
    return `127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  }

  cut(): void {
    this.open = false;
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

describeFirestore("a Firestore that is away", () => {
  it("is waited for, then said to be unavailable; work goes on when it is back", async () => {
    const line = new Line(inject("firestoreEmulator").host ?? "");
    const project = newProject();
    const through = newClient(project, await line.listen());
    onTestFinished(async () => {
      await through.terminate();
      await line.close();
    });
    const store = await openStore(through, { patienceMs: 1_500 });
    const kit = new StoreKit(store);
    await kit.start(newRun("a"));
    line.cut();
    await expect(kit.start(newRun("b"))).rejects.toMatchObject({ code: "store_unavailable", retryable: true });
    await expect(store.stats()).rejects.toMatchObject({ code: "store_unavailable", retryable: true });
    line.open = true;
    let outcome: string[] | undefined;
    for (let tries = 0; tries < 10 && outcome === undefined; tries += 1) outcome = await kit.start(newRun("b")).catch(() => undefined);
    expect(outcome).toEqual([expect.stringMatching(/started|existing/)]);
    expect((await store.listRuns({})).items.map(({ id }) => id).toSorted()).toEqual(["a", "b"]);
  }, 60_000);

  it("a commit whose answer is lost is in doubt, and can be repeated", async () => {
    const store = await openStore(client);
    const kit = new StoreKit(store);
    const run = client.runTransaction.bind(client);
    client.runTransaction = async (...parameters) => {
      await run(...parameters);
      throw Object.assign(new Error("14 UNAVAILABLE: the connection broke"), { code: 14 });
    };
    await expect(kit.start(newRun("a"))).rejects.toMatchObject({ code: "store_unavailable", details: { inDoubt: true } });
    client.runTransaction = run;
    expect(await kit.start(newRun("a"))).toEqual(["existing"]);
    expect((await store.stats()).runs.runnable).toBe(1);
  });

  it("what the server refuses says what to do", async () => {
    const store = await openStore(client);
    const run = client.runTransaction.bind(client);
    onTestFinished(() => {
      client.runTransaction = run;
    });
    const cases = [
      [7, "Missing or insufficient permissions", "roles/datastore.user"],
      [5, "The database (default) does not exist", "Create the database"],
      [9, "The query requires an index", "firestore:indexes"],
      [9, "The Cloud Firestore API is not available for Datastore Mode", "Native mode"],
      [3, "Transaction too big. Decrease transaction size.", "payloads"],
    ] as const;
    for (const [code, message, hint] of cases) {
      client.runTransaction = async () => {
        throw Object.assign(new Error(message), { code });
      };
      await expect(store.holdFlush({ producer: "p", until: 1 })).rejects.toMatchObject({ hint: expect.stringContaining(hint) as string });
    }
  });

  it("the locks of a process that died are waited for, longer than for a server that is away", async () => {
    const store = await openStore(client, { patienceMs: 100 });
    const run = client.runTransaction.bind(client);
    const startedAt = performance.now();
    client.runTransaction = async (...parameters) => {
      if (performance.now() - startedAt < 600) throw Object.assign(new Error("10 ABORTED: Transaction lock timeout."), { code: 10 });
      return run(...parameters);
    };
    expect(await new StoreKit(store).start(newRun("a"))).toEqual(["started"]);
  });

  it("a transaction that others get in the way of is done again", async () => {
    const store = await openStore(client);
    const run = client.runTransaction.bind(client);
    let tries = 0;
    client.runTransaction = async (...parameters) => {
      tries += 1;
      if (tries < 4) throw Object.assign(new Error("10 ABORTED: Transaction lock timeout."), { code: 10 });
      return run(...parameters);
    };
    expect(await new StoreKit(store).start(newRun("a"))).toEqual(["started"]);
    expect(tries).toBe(4);
  });
});
