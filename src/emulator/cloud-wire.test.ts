import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorOptions } from "../emulator.ts";
import { crc32c, crcText } from "./crc32c.ts";
import { filterOf } from "./list-filter.ts";
import { readRelated } from "./multipart.ts";

/** What goes over the wire to Cloud Storage, BigQuery and Vertex AI, beyond what the official clients show. */

type Any = any;
const model = "publishers/google/models/gemini-2.5-flash";
const body = { contents: [{ role: "user", parts: [{ text: "Why?" }] }] };

async function setUp(options: EmulatorOptions = {}) {
  const emulator = await startEmulator({ turnaround: 0, ...options });
  const raw = (method: string, path: string, content?: string | Buffer, headers: Record<string, string> = {}) =>
    fetch(path.startsWith("http") ? path : emulator.url + path, { method, headers, ...(content === undefined ? {} : { body: content }) });
  const json = async (response: Promise<Response>) => (await (await response).json()) as Any;
  return { emulator, raw, json, [Symbol.asyncDispose]: () => emulator.close() };
}

describe("CRC-32C", () => {
  it.each([
    ["", 0],
    ["123456789", 0xe3069283],
    ["\0".repeat(32), 0x8a9136aa],
  ])("of %j", (text, value) => {
    expect(crc32c(0, Buffer.from(text))).toBe(value);
  });

  it("goes on from what came before, wherever it is split", () => {
    const bytes = Buffer.from(Array.from({ length: 100 }, (_, i) => (i * 37) % 256));
    for (let at = 0; at <= 100; at += 1) expect(crc32c(crc32c(0, bytes.subarray(0, at)), bytes.subarray(at))).toBe(crc32c(0, bytes));
    expect(crcText(0xe3069283)).toBe("4waSgw==");
  });
});

describe("objects", () => {
  it("say what they are in headers and metadata", async () => {
    await using t = await setUp();
    const content = Buffer.from("some bytes\nand more");
    const metadata = await t.json(
      t.raw("POST", "/upload/storage/v1/b/bbb/o?uploadType=media&name=dir%2Fx.txt", content, { "content-type": "text/plain" }),
    );
    const md5 = createHash("md5").update(content).digest("base64");
    const crc = crcText(crc32c(0, content));
    expect(metadata).toMatchObject({
      ...{ kind: "storage#object", name: "dir/x.txt", bucket: "bbb", contentType: "text/plain", size: "19", md5Hash: md5, crc32c: crc },
      ...{ generation: expect.stringMatching(/^\d{16}$/), metageneration: "1", id: `bbb/dir/x.txt/${metadata.generation}` },
    });
    expect(await t.json(t.raw("GET", "/b/bbb/o/dir%2Fx.txt?"))).toEqual(metadata);
    for (const path of [
      "/storage/v1/b/bbb/o/dir%2Fx.txt?alt=media",
      "/b/bbb/o/dir%2Fx.txt?alt=media",
      new URL(metadata.mediaLink).pathname,
    ]) {
      const response = await t.raw("GET", path);
      expect([response.headers.get("x-goog-hash"), await response.text()]).toEqual([`crc32c=${crc},md5=${md5}`, content.toString()]);
    }
    const again = await t.json(t.raw("POST", "/upload/storage/v1/b/bbb/o?uploadType=media&name=dir%2Fx.txt", "new"));
    expect(Number(again.generation)).toBeGreaterThan(Number(metadata.generation));
    expect((await t.raw("DELETE", `/b/bbb/o/dir%2Fx.txt?ifGenerationMatch=${metadata.generation}`)).status).toBe(412);
    const deleted = await t.raw("DELETE", "/b/bbb/o/dir%2Fx.txt");
    expect([deleted.status, await deleted.text()]).toEqual([204, ""]);
  });

  it("that are missing say so", async () => {
    await using t = await setUp({ buckets: ["bbb"] });
    const message = "No such object: bbb/x";
    const error = { error: { code: 404, message, errors: [{ message, domain: "global", reason: "notFound" }] } };
    for (const [method, path] of [
      ["GET", "/b/bbb/o/x"],
      ["GET", "/storage/v1/b/bbb/o/x?alt=media"],
      ["DELETE", "/b/bbb/o/x"],
    ] as const) {
      const response = await t.raw(method, path);
      expect([response.status, await response.json()]).toEqual([404, error]);
    }
    expect((await t.json(t.raw("GET", "/b/nnn/o"))).error).toMatchObject({ code: 404, message: "The specified bucket does not exist." });
    expect((await t.raw("POST", "/upload/storage/v1/b/nnn/o?uploadType=resumable&name=x", "{}")).status).toBe(404);
  });

  it.each([
    ["bytes=5-", "bytes 5-9/10", "56789"],
    ["bytes=2-4", "bytes 2-4/10", "234"],
    ["bytes=-3", "bytes 7-9/10", "789"],
    ["bytes=8-99", "bytes 8-9/10", "89"],
  ])("are read by %s", async (range, contentRange, text) => {
    await using t = await setUp();
    await t.raw("POST", "/upload/storage/v1/b/bbb/o?uploadType=media&name=x", "0123456789");
    const response = await t.raw("GET", "/b/bbb/o/x?alt=media", undefined, { range });
    expect([response.status, response.headers.get("content-range"), await response.text()]).toEqual([206, contentRange, text]);
    expect((await t.raw("GET", "/b/bbb/o/x?alt=media", undefined, { range: "bytes=10-" })).status).toBe(416);
  });

  it("come whole out of a multipart body that looks like its own boundary", async () => {
    await using t = await setUp();
    const content = `a\r\n--bound\r\n--boundary\r\n--boundar`.repeat(3_000);
    const text = `--boundary\r\ncontent-type: application/json\r\n\r\n{"name":"m","contentType":"text/x"}\r\n--boundary\r\ncontent-type: text/plain\r\n\r\n${content}\r\n--boundary--\r\n`;
    const stored = await t.json(
      t.raw("POST", "/upload/storage/v1/b/bbb/o?uploadType=multipart", text, { "content-type": "multipart/related; boundary=boundary" }),
    );
    expect(stored).toMatchObject({ name: "m", contentType: "text/x", size: String(content.length) });
    expect(await (await t.raw("GET", "/b/bbb/o/m?alt=media")).text()).toBe(content);
    const broken = t.raw("POST", "/upload/storage/v1/b/bbb/o?uploadType=multipart", text.slice(0, -20), {
      "content-type": "multipart/related; boundary=boundary",
    });
    expect((await broken).status).toBe(400);
  });

  it("come whole out of a multipart body, however it is split", async () => {
    const text =
      '--b\r\ncontent-type: application/json\r\n\r\n{"name":"m"}\r\n--b\r\ncontent-type: text/plain\r\n\r\none\r\n--two--\r\n--b--';
    for (let size = 1; size <= text.length; size += 1) {
      const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, i) => Buffer.from(text.slice(i * size, (i + 1) * size)));
      const { about, bytes, contentType } = await readRelated('multipart/related; boundary="b"', Readable.from(pieces));
      const content = Buffer.concat(await Array.fromAsync(bytes)).toString();
      expect([about, contentType, content]).toEqual([{ name: "m" }, "text/plain", "one\r\n--two--"]);
    }
  });

  it("arrive in parts, some of them twice", async () => {
    await using t = await setUp();
    const started = await t.raw("POST", "/upload/storage/v1/b/bbb/o?uploadType=resumable&name=r", "{}", {
      "x-upload-content-type": "text/plain",
    });
    const url = started.headers.get("location") ?? "";
    const put = (range: string, content = "") => t.raw("PUT", url, content, { "content-range": range });
    expect((await put("bytes */*")).headers.get("range")).toBeNull();
    const first = await put("bytes 0-3/*", "0123");
    expect([first.status, first.headers.get("range")]).toEqual([308, "bytes=0-3"]);
    expect((await put("bytes 8-9/10", "89")).status).toBe(503);
    await put("bytes 2-5/*", "2345");
    expect(await t.json(put("bytes 6-9/10", "6789"))).toMatchObject({ size: "10", contentType: "text/plain" });
    expect((await t.json(put("bytes */10"))).size).toBe("10");
    expect(await (await t.raw("GET", "/b/bbb/o/r?alt=media")).text()).toBe("0123456789");
  });
});

describe("tables", () => {
  it("that are missing or there already say so", async () => {
    await using t = await setUp({ datasets: ["p.ddd"] });
    const missing = await t.json(t.raw("GET", "/bigquery/v2/projects/p/datasets/ddd/tables/t?prettyPrint=false"));
    expect(missing.error).toMatchObject({ code: 404, message: "Not found: Table p:ddd.t", errors: [{ reason: "notFound" }] });
    expect((await t.raw("GET", "/projects/p/datasets/nnn")).status).toBe(404);
    expect((await t.raw("GET", "/projects/other/datasets/ddd")).status).toBe(404);
    const create = () => t.raw("POST", "/projects/p/datasets/ddd/tables", JSON.stringify({ tableReference: { tableId: "t" } }));
    expect((await create()).status).toBe(200);
    expect((await t.json(create())).error).toMatchObject({ code: 409, message: "Already Exists: Table p:ddd.t" });
  });

  it("keep the names of their columns, and have pages of any size", async () => {
    await using t = await setUp();
    const fields = [{ name: "row_number", type: "INTEGER" }];
    await t.raw("POST", "/projects/p/datasets/ddd/tables", JSON.stringify({ tableReference: { tableId: "t" }, schema: { fields } }));
    const rows = Array.from({ length: 2_500 }, (_, i) => ({ json: { row_number: i } }));
    await t.raw("POST", "/projects/p/datasets/ddd/tables/t/insertAll", JSON.stringify({ rows }));
    const page = (query: string) => t.json(t.raw("GET", `/projects/p/datasets/ddd/tables/t/data?${query}`));
    const first = await page("maxResults=999");
    expect([first.totalRows, first.rows.length, first.pageToken]).toEqual(["2500", 999, "999"]);
    expect((await page("maxResults=3&pageToken=1999")).rows).toEqual(["1999", "2000", "2001"].map((v) => ({ f: [{ v }] })));
    const last = await page("maxResults=999&startIndex=2499");
    expect([last.rows.length, Object.hasOwn(last, "pageToken")]).toEqual([1, false]);
    expect(await page("startIndex=2500")).not.toHaveProperty("rows");
  });
});

describe("Vertex AI", () => {
  it("wants a token or the key, if there is one; storage and tables want nothing", async () => {
    await using t = await setUp({ apiKey: "secret" });
    const ask = (headers: Record<string, string>) =>
      t.raw("POST", `/v1/projects/p/locations/l/${model}:generateContent`, JSON.stringify(body), headers);
    expect([(await ask({})).status, (await ask({ "x-goog-api-key": "wrong" })).status]).toEqual([401, 400]);
    expect([(await ask({ "x-goog-api-key": "secret" })).status, (await ask({ authorization: "Bearer token" })).status]).toEqual([200, 200]);
    expect((await t.raw("GET", "/b/bbb/o")).status).toBe(200);
    expect((await t.raw("GET", "/projects/p/datasets")).status).toBe(200);
  });

  it.each([
    [undefined, "global", "ON_DEMAND", "standard"],
    ["flex", "global", "ON_DEMAND_FLEX", "flex"],
    ["priority", "us-central1", "ON_DEMAND_PRIORITY", "priority"],
  ] as const)("answers at the tier of its header: %s in %s", async (tier, location, trafficType, billed) => {
    await using t = await setUp();
    const headers: Record<string, string> = tier === undefined ? {} : { "X-Vertex-AI-LLM-Shared-Request-Type": tier };
    const answer = await t.json(
      t.raw("POST", `/v1/projects/p/locations/${location}/${model}:generateContent`, JSON.stringify(body), headers),
    );
    expect(answer.usageMetadata).toMatchObject({ trafficType });
    expect(answer.usageMetadata).not.toHaveProperty("serviceTier");
    expect(t.emulator.ledger.tiers[billed].billed).toBe(1);
    const regional = await t.raw("POST", `/v1/projects/p/locations/us-central1/${model}:generateContent`, JSON.stringify(body), headers);
    expect(regional.status).toBe(tier === "flex" ? 400 : 200);
  });

  it("refuses contents without a role, and unknown models", async () => {
    await using t = await setUp();
    const ask = (name: string, content: object) =>
      t.json(t.raw("POST", `/v1/projects/p/locations/l/${name}:generateContent`, JSON.stringify(content)));
    const roleless = await ask(model, { contents: [{ parts: [{ text: "x" }] }] });
    expect(roleless.error).toEqual({ code: 400, message: "Please use a valid role: user, model.", status: "INVALID_ARGUMENT" });
    expect((await ask("publishers/google/models/no-such", body)).error).toMatchObject({ code: 404, status: "NOT_FOUND" });
    expect((await t.raw("POST", `/v1/projects/p/locations/l/${model}:fly`, "{}")).status).toBe(404);
  });

  it("forgets everything at a reset", async () => {
    await using t = await setUp();
    await t.raw("POST", "/upload/storage/v1/b/bbb/o?uploadType=media&name=x", "x");
    await t.raw("POST", "/projects/p/datasets/ddd/tables", JSON.stringify({ tableReference: { tableId: "t" } }));
    await t.emulator.reset();
    expect(await t.json(t.raw("GET", "/b/bbb/o"))).toEqual({ kind: "storage#objects" });
    expect((await t.raw("GET", "/projects/p/datasets/ddd/tables/t")).status).toBe(404);
  });
});

describe("a filter", () => {
  const job = { displayName: 'a "b" AND c', state: "JOB_STATE_RUNNING", createTime: "2026-11-22T00:00:00.000000Z", labels: { run: "r-1" } };

  it.each([
    [undefined, true],
    ['display_name="a \\"b\\" AND c"', true],
    ['display_name!="x" AND state=JOB_STATE_RUNNING', true],
    ['state="JOB_STATE_FAILED" OR labels.run="r-1"', true],
    ["labels.run:* AND NOT labels.other:*", true],
    ['create_time<="2026-11-22T00:00:00Z"', true],
    ['create_time<"2026-11-22T00:00:00Z"', false],
    ["labels.run=r-2", false],
  ])("%s: %s", (text, expected) => {
    expect(filterOf(text)(job)).toBe(expected);
  });

  it.each(["nope=1", "state", 'display_name="a" and', "(state=x)"])("cannot read %s", (text) => {
    expect(() => filterOf(text)).toThrow("Invalid filter");
  });
});
