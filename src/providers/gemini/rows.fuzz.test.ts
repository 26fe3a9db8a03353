import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Lane, ProviderError, type ResultRow } from "../../core/provider.ts";
import { splitLines } from "../shared/lines.ts";
import { gemini } from "./provider.ts";
import { decodeItem, decodeLine, encodeInline, encodeLine } from "./rows.ts";

const settings = { seed: 20_260_901, numRuns: 150 };
const lane: Lane = { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" };

// What may stand in a file ----------------------------------------------------------------------------------------------------

const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.string({ maxLength: 30 }),
  fc.constantFrom("\ud800", "\udfff x", "\0", "\uFEFF", "a\u2028b", "1e400"),
);
const json = fc.jsonValue({ maxDepth: 3, stringUnit: "binary" });
const deep = (levels: number, open: string, close: string): string => open.repeat(levels) + close.repeat(levels);

/** JSON text of one object with these members in any order, one of them twice at times. */
const objectText = (members: Record<string, fc.Arbitrary<string>>): fc.Arbitrary<string> =>
  fc
    .record(members, { requiredKeys: [] })
    .chain((given) => fc.tuple(fc.shuffledSubarray(Object.entries(given), { minLength: Object.keys(given).length }), fc.boolean()))
    .map(([entries, twice]) => [...entries, ...(twice ? entries.slice(0, 1) : [])])
    .map((entries) => `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`);

const anyText = json.map((value) => JSON.stringify(value));
const hostile = fc.constantFrom(
  deep(6_000, "[", "]"),
  deep(6_000, '{"a":', "}").replace("}", "1}"),
  `[${"9".repeat(400)},-1e999,1E+1000000]`,
  '{"toString":1,"valueOf":2}',
  '{"__proto__":{"key":"x","response":{}},"constructor":null}',
  '"\\ud800"',
);
const value = fc.oneof({ weight: 4, arbitrary: anyText }, { weight: 1, arbitrary: hostile });
const errorText = fc.oneof(
  value,
  objectText({ code: value, message: value, status: value, details: value }),
  fc.constantFrom('"OK"', '""', '"INTERNAL"', '{"code":0}'),
);

/** Objects that come near to a row, in every variant of it that was seen. */
const rowText = objectText({
  key: fc.oneof(
    text.map((key) => JSON.stringify(key)),
    value,
  ),
  custom_id: value,
  customId: value,
  metadata: fc.oneof(value, objectText({ key: value, custom_id: value })),
  response: fc.oneof(value, fc.constant("null"), objectText({ candidates: value, usageMetadata: value, usage_metadata: value })),
  error: errorText,
  status: errorText,
  candidates: value,
  promptFeedback: value,
  prompt_feedback: value,
  embedding: value,
  __proto__: value,
});

const bytesOf = (source: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(source));
const withoutBreak = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(bytes.filter((byte) => byte !== 10));

/** Any line: near to a row, damaged, cut in the middle of a character, blank, or noise. */
const anyLine = fc.oneof(
  rowText.map(bytesOf),
  fc.tuple(rowText, fc.nat(), fc.nat(), fc.uint8Array({ maxLength: 6 })).map(([source, from, to, noise]) => {
    const bytes = bytesOf(source);
    return withoutBreak(Buffer.concat([bytes.subarray(0, from % (bytes.length + 1)), noise, bytes.subarray(to % (bytes.length + 1))]));
  }),
  fc.uint8Array({ maxLength: 60 }).map(withoutBreak),
  anyText.map(bytesOf),
  hostile.map(bytesOf),
  fc.constantFrom("", " ", "\t\v\f", "\uFEFF", "\0", "\r", "{}\r{}", "null", '{"key":"r1"', "üñ🧵").map(bytesOf),
  fc.constantFrom("üñ🧵", '{"key":"ü"}').map((source) => bytesOf(source).slice(0, -1)),
  fc
    .constantFrom("utf16le" as const, "latin1" as const)
    .map((encoding) => withoutBreak(Buffer.from('{"key":"ü","response":{}}', encoding))),
);

/** A row as the service writes it. Its key is one that no noise hits upon. */
const goodLine = fc
  .record({
    id: fc.uuid(),
    answer: fc.dictionary(text, json, { maxKeys: 3, noNullPrototype: true }),
    form: fc.constantFrom("key", "metadata", "custom_id"),
    bom: fc.boolean(),
    spaces: fc.constantFrom("", " ", "\t"),
  })
  .map(({ id, answer, form, bom, spaces }) => {
    const response = { candidates: [], ...answer };
    const item = form === "metadata" ? { metadata: { key: id }, response } : { response, [form]: id };
    return {
      id,
      response: JSON.parse(JSON.stringify(response)) as unknown,
      bytes: bytesOf(`${bom ? "\uFEFF" : ""}${spaces}${JSON.stringify(item)}${spaces}`),
    };
  });

interface Line {
  bytes: Uint8Array<ArrayBuffer>;
  id?: string;
  response?: unknown;
}

/** Lines with their line breaks; the last one may lack its own. */
const file = fc
  .record({
    lines: fc.array(
      fc.oneof<fc.Arbitrary<Line>[]>(
        goodLine,
        anyLine.map((bytes) => ({ bytes })),
      ),
      { maxLength: 12 },
    ),
    breaks: fc.array(fc.constantFrom("\n", "\r\n"), { minLength: 12, maxLength: 12 }),
    open: fc.boolean(),
  })
  .map(({ lines, breaks, open }) => ({
    lines,
    bytes: Buffer.concat(lines.flatMap(({ bytes }, i) => [bytes, bytesOf(open && i === lines.length - 1 ? "" : (breaks[i] ?? "\n"))])),
  }));

/** The same bytes in some hundred pieces at most; `sizes` says where they end, round and round. */
function pieces(bytes: Uint8Array, sizes: readonly number[]): Uint8Array<ArrayBuffer>[] {
  const result: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const size = (sizes[i % sizes.length] ?? 1) * Math.ceil(bytes.length / 500);
    result.push(new Uint8Array(bytes.subarray(at, at + size)));
    at += size;
  }
  return result;
}

const sizes = fc.oneof(
  fc.constant([1]),
  fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 5 }).map((list) => [...list, 7]),
);

function expectWellFormed(row: ResultRow): void {
  expect(row.key === undefined || (typeof row.key === "string" && row.key !== "")).toBe(true);
  const parts = [row.response !== undefined, row.error !== undefined, "problem" in row];
  expect(parts.filter(Boolean)).toHaveLength(1);
  if (row.response !== undefined) {
    expect(row.response).toBeTypeOf("object");
    // Whatever is delivered can be stored.
    JSON.stringify(row.response);
  }
  if (row.error) {
    expect(row.error).toMatchObject({ code: expect.any(Number) as number, message: expect.any(String) as string });
    expect(Number.isInteger(row.error.code)).toBe(true);
  }
  if ("problem" in row) expect(row.problem.length).toBeLessThan(60);
}

// The properties -----------------------------------------------------------------------------------------------------------

describe("a line of an output, whatever it is", () => {
  it("is a row, a problem or nothing, and never throws", () => {
    fc.assert(
      fc.property(anyLine, (line) => {
        const row = decodeLine(line);
        if (row) expectWellFormed(row);
      }),
      { ...settings, numRuns: 800 },
    );
  });

  it("is as good as an item of an inline output", () => {
    fc.assert(
      fc.property(rowText, (source) => {
        const row = decodeItem(JSON.parse(source));
        expectWellFormed(row);
        expect(decodeLine(bytesOf(source))).toEqual(row);
      }),
      settings,
    );
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true, withBigInt: true, withMap: true }), (item) => {
        decodeItem(item);
      }),
      settings,
    );
  });

  it.each([100, 490, 510, 4_000, 100_000])("nested %i deep is delivered as long as it can be stored", (levels) => {
    const row = decodeLine(bytesOf(`{"key":"r1","response":{"candidates":${deep(levels, "[", "]")}}}`));
    expectWellFormed(row!);
    expect(row).toHaveProperty(levels < 500 ? "response" : "problem");
  });
});

describe("a file, whatever it holds", () => {
  const split = async (chunks: readonly Uint8Array[], max: number) => {
    const source = async function* () {
      yield* chunks;
    };
    const lines: { text: string | undefined; open: boolean }[] = [];
    for await (const group of splitLines(source(), max))
      for (const line of group) lines.push({ text: line.bytes && Buffer.from(line.bytes).toString("latin1"), open: line.open });
    return lines;
  };

  it("has the same lines in whatever pieces it comes; one over the limit is known and not kept", async () => {
    await fc.assert(
      fc.asyncProperty(file, sizes, fc.integer({ min: 1, max: 300 }), async ({ bytes }, where, max) => {
        const parts = bytes.toString("latin1").split("\n");
        const expected = parts
          .map((part, i) => ({ text: part.length > max ? undefined : part, open: i === parts.length - 1, length: part.length }))
          .filter(({ open, length }) => !open || length > 0)
          .map(({ text: kept, open }) => ({ text: kept, open }));
        expect(await split(pieces(bytes, where), max)).toEqual(expected);
      }),
      settings,
    );
  });

  /** Everything that a download of these pieces gives, and the error that it ends with. */
  const download = async (chunks: readonly Uint8Array<ArrayBuffer>[], length: number | undefined, maxLineBytes: number) => {
    const headers = length === undefined ? {} : { "content-length": String(length) };
    const fetch = async () => new Response(ReadableStream.from(chunks.filter((chunk) => chunk.length > 0)), { headers });
    const provider = gemini({ apiKey: "k", baseUrl: "http://x", fetch, maxLineBytes });
    const job = { name: "batches/a", state: "succeeded" as const, rawStatus: "", output: "files/a" };
    const rows: ResultRow[] = [];
    let failure: string | undefined;
    try {
      for await (const row of provider.readResults(job, lane, new AbortController().signal)) rows.push(row);
    } catch (thrown) {
      if (!ProviderError.is(thrown)) throw thrown;
      failure = thrown.failure;
    }
    return { rows, failure };
  };

  it("gives every good row once, in order and unchanged, between whatever stands around it", async () => {
    await fc.assert(
      fc.asyncProperty(file, sizes, fc.boolean(), async ({ lines, bytes }, where, announced) => {
        const found = await download(pieces(bytes, where), announced ? bytes.length : undefined, 1_000_000);
        for (const row of found.rows) expectWellFormed(row);
        const good = lines.filter(({ id }) => id !== undefined);
        const ids = new Set(good.map(({ id }) => id));
        const delivered = found.rows.filter(({ key }) => key !== undefined && ids.has(key));
        expect(delivered).toEqual(good.map(({ id, response }) => ({ key: id, response })));
        // Without an announced length a bad last line without a line break may be a cut.
        expect(announced ? [undefined] : [undefined, "unavailable"]).toContain(found.failure);
        expect(await download([new Uint8Array(bytes)], announced ? bytes.length : undefined, 1_000_000)).toEqual(found);
      }),
      { ...settings, numRuns: 120 },
    );
  });

  it("that ends too early is known to, and gives nothing that is not in it", async () => {
    await fc.assert(
      fc.asyncProperty(file, fc.nat(), async ({ bytes }, at) => {
        fc.pre(bytes.length > 0);
        const cut = bytes.subarray(0, at % bytes.length);
        const whole = await download([new Uint8Array(bytes)], bytes.length, 1_000_000);
        const found = await download([new Uint8Array(cut)], bytes.length, 1_000_000);
        expect(found.failure).toBe("unavailable");
        // All but the open line at the end are as they are in the whole file.
        const sure = found.rows.slice(0, -1);
        expect(sure).toEqual(whole.rows.slice(0, sure.length));
      }),
      { ...settings, numRuns: 120 },
    );
  });

  it("with a line of megabytes goes on behind it", async () => {
    const long = Buffer.from(`{"key":"long","response":{"text":"${"x".repeat(3_000_000)}"}}\n`);
    const row = (key: string) => Buffer.from(`{"key":"${key}","response":{}}\n`);
    const bytes = Buffer.concat([row("a"), long, row("b")]);
    const rows = (await download(pieces(bytes, [65_536]), bytes.length, 1_000_000)).rows;
    expect(rows).toEqual([
      { key: "a", response: {} },
      { key: undefined, problem: "a line of more than 1000000 bytes" },
      { key: "b", response: {} },
    ]);
    expect((await download(pieces(bytes, [65_536]), bytes.length, 4_000_000)).rows.map(({ key }) => key)).toEqual(["a", "long", "b"]);
  });
});

describe("a line that never ends", () => {
  it("is not kept: what came before its limit is let go", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const size = 64 * 1024;
    const limit = 4 * size;
    const seen: WeakRef<ArrayBuffer>[] = [];
    const kept: number[] = [];
    const source = async function* () {
      for (let n = 1; n <= 120; n += 1) {
        const chunk = new Uint8Array(size);
        seen.push(new WeakRef(chunk.buffer));
        yield chunk;
        if (n % 30 !== 0) continue;
        await setImmediate();
        collect();
        kept.push(seen.filter((buffer) => buffer.deref() !== undefined).length);
      }
    };
    const lines = [];
    for await (const group of splitLines(source(), limit)) lines.push(...group);
    expect(lines).toEqual([{ bytes: undefined, open: true }]);
    // The piece in hand, the one before it, and one to spare.
    expect(Math.max(...kept)).toBeLessThanOrEqual(3);
  });
});

describe("a row of an input", () => {
  it("stays on its line and comes back as it was, however its body is written", () => {
    const key = text.filter((name) => name.isWellFormed());
    fc.assert(
      fc.property(
        key,
        fc.dictionary(text, json, { noNullPrototype: true }),
        fc.constantFrom(undefined, 2, "\t"),
        fc.boolean(),
        (name, value, indent, crlf) => {
          const written = JSON.stringify(value, undefined, indent);
          const body = crlf ? written.replaceAll("\n", "\r\n") : written;
          const line = encodeLine({ key: name, body });
          expect(line.indexOf("\n")).toBe(line.length - 1);
          expect(line).not.toContain("\r");
          expect(JSON.parse(line)).toEqual({ key: name, request: JSON.parse(body) as unknown });
          expect(JSON.parse(encodeInline({ key: name, body }))).toEqual({ metadata: { key: name }, request: JSON.parse(body) as unknown });
        },
      ),
      settings,
    );
  });
});
