import { Storage } from "@google-cloud/storage";
import { describe, expect, it, onTestFinished } from "vitest";
import { startEmulator } from "../emulator.ts";
import { testPayloadStore } from "../testing/payload-conformance.ts";
import { cloudStoragePayloads } from "./cloud-storage.ts";

const bucket = "payloads";

async function startStorage() {
  const emulator = await startEmulator({ buckets: [bucket] });
  // Without repeats of the client's own: a refusal shall not take seconds.
  const storage = new Storage({ apiEndpoint: emulator.url, projectId: "project", retryOptions: { autoRetry: false } });
  const names = async () => (await storage.bucket(bucket).getFiles({ maxResults: 2_000 }))[0].map(({ name }) => name);
  return { emulator, storage, names };
}

testPayloadStore(
  { describe, it, expect },
  {
    name: "Cloud Storage",
    async create() {
      const { emulator, storage, names } = await startStorage();
      const open = () => cloudStoragePayloads({ bucket, prefix: "some/folder/", storage });
      return {
        store: open(),
        peer: async () => open(),
        keys: async () => (await names()).map((name) => name.replace(/^some\/folder\//, "")),
        async break() {
          emulator.faults.serverError = true;
        },
        dispose: async () => emulator.close(),
      };
    },
  },
);

describe("payloads in Cloud Storage", () => {
  const key = `store/2026-01-02/${"0".repeat(26)}`;

  async function newStorage() {
    const started = await startStorage();
    onTestFinished(async () => started.emulator.close());
    return started;
  }

  it("lie under their key without a prefix", async () => {
    const { storage, names } = await newStorage();
    await cloudStoragePayloads({ bucket, storage }).put(key, "text");
    expect(await names()).toEqual([key]);
    expect((await storage.bucket(bucket).file(key).download())[0].toString()).toBe("text");
  });

  it("never change", async () => {
    const { storage } = await newStorage();
    const store = cloudStoragePayloads({ bucket, storage });
    await store.put(key, "text");
    await store.put(key, "other");
    expect(await store.get(key)).toBe("text");
  });

  it("do not count as missing when their bucket is", async () => {
    const { storage } = await newStorage();
    const store = cloudStoragePayloads({ bucket: "another", storage });
    const unavailable = { code: "payload_unavailable", retryable: true };
    await expect(store.get(key)).rejects.toMatchObject(unavailable);
    await expect(store.put(key, "text")).rejects.toMatchObject(unavailable);
  });

  it("nor when the service fails or the connection breaks", async () => {
    const { emulator, storage } = await newStorage();
    const store = cloudStoragePayloads({ bucket, storage });
    for (const fault of ["serverError", "connectionLost", "htmlError"] as const) {
      emulator.faults[fault] = { times: 1 };
      await expect(store.get(key)).rejects.toMatchObject({ code: "payload_unavailable", retryable: true });
    }
    await expect(store.get(key)).rejects.toMatchObject({ code: "payload_missing" });
  });

  it("that cannot be removed are told", async () => {
    const { emulator, storage } = await newStorage();
    const store = cloudStoragePayloads({ bucket, storage });
    await store.put(key, "text");
    emulator.faults.serverError = true;
    await expect(store.delete([key])).rejects.toThrow(/1 payloads could not be removed from bucket payloads/);
  });

  it("refuse options that they do not know or cannot use", () => {
    expect(() => cloudStoragePayloads({} as never)).toThrow(/Option bucket must be a text/);
    expect(() => cloudStoragePayloads({ bucket, folder: "x" } as never)).toThrow(/cloudStoragePayloads\(\) has no option "folder"/);
    expect(() => cloudStoragePayloads({ bucket, prefix: 5 as never })).toThrow(/Option prefix/);
    expect(() => cloudStoragePayloads({ bucket, storage: {} as never })).toThrow(/Option storage must be an object with bucket/);
  });
});
