import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, sep } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { testPayloadStore } from "../testing/payload-conformance.ts";
import { filePayloads } from "./file.ts";

const newFolder = async (): Promise<string> => mkdtemp(join(tmpdir(), "gembatch-payloads-"));

/** Paths of all files below a folder. */
async function filesBelow(folder: string): Promise<string[][]> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  return found.filter((item) => item.isFile()).map((item) => relative(folder, join(item.parentPath, item.name)).split(sep));
}

testPayloadStore(
  { describe, it, expect },
  {
    name: "a folder",
    async create() {
      const folder = await newFolder();
      const path = join(folder, "deep", "payloads");
      return {
        store: filePayloads({ path }),
        peer: async () => filePayloads({ path }),
        keys: async () => (await filesBelow(folder)).map(([, , store, day, , id]) => [store, day, id].join("/")),
        async break() {
          await rm(path, { recursive: true });
          await writeFile(path, "no folder");
        },
        dispose: async () => rm(folder, { recursive: true }),
      };
    },
  },
);

describe("payloads in a folder", () => {
  const key = `store/2026-01-02/${"ab".padEnd(26, "0")}`;

  async function newStore() {
    const path = await newFolder();
    onTestFinished(async () => rm(path, { recursive: true, force: true }));
    return { path, store: filePayloads({ path }) };
  }

  it("lie by store, day and two characters of their id, without any draft", async () => {
    const { path, store } = await newStore();
    await store.put(key, "text");
    expect(await filesBelow(path)).toEqual([["store", "2026-01-02", "ab", "ab".padEnd(26, "0")]]);
  });

  it("leave no empty folders behind when they are removed", async () => {
    const { path, store } = await newStore();
    const other = key.replace("-02/", "-03/");
    await store.put(key, "text");
    await store.put(other, "text");
    await store.delete([key]);
    expect(await readdir(join(path, "store"))).toEqual(["2026-01-03"]);
    await store.delete([other]);
    expect(await readdir(join(path, "store"))).toEqual([]);
  });

  it("are written while folders go away around them", async () => {
    const { path, store } = await newStore();
    const keys = Array.from({ length: 300 }, (_, n) => `store/2026-01-02/ab${`${n}`.padStart(24, "0")}`);
    await Promise.all(
      keys.map(async (one) => {
        await store.put(one, one);
        expect(await store.get(one)).toBe(one);
        await store.delete([one]);
      }),
    );
    expect(await filesBelow(path)).toEqual([]);
  });

  it("do not count as missing when the whole folder is", async () => {
    const { path, store } = await newStore();
    await store.put(key, "text");
    await rm(path, { recursive: true });
    await expect(store.get(key)).rejects.toMatchObject({ code: "payload_unavailable", retryable: true });
  });

  it.each(["../../../etc/passwd", "store/../passwd", "/etc/passwd", "store/2026-01-02/a/b", "", "store/2026-01-02/"])(
    "are never looked for outside of it: %s",
    async (strange) => {
      const { store } = await newStore();
      await expect(store.get(strange)).rejects.toMatchObject({ code: "payload_missing" });
      await expect(store.put(strange, "x")).rejects.toMatchObject({ code: "payload_missing" });
    },
  );

  it.each([
    [{}, /Option path must be a text that is not empty, got undefined/],
    [{ path: " " }, /Option path/],
    [{ path: "x", folder: "y" }, /filePayloads\(\) has no option "folder"\. It knows path\./],
    ["x", /takes an object of options/],
  ])("refuse %o", (options, message) => {
    expect(() => filePayloads(options as never)).toThrow(message);
  });
});
