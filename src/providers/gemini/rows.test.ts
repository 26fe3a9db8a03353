import { describe, expect, it } from "vitest";
import { splitLines } from "../shared/lines.ts";
import { decodeItem, decodeLine, encodeInline, encodeLine } from "./rows.ts";

const line = (text: string) => decodeLine(Buffer.from(text));

describe("encoding", () => {
  it("puts the body in as it is", () => {
    const body = '{"contents":[{"parts":[{"text":"a\u2028b \\u2028 \\n 🧵"}]}],"x":1.0e5}';
    expect(encodeLine({ key: "r1", body })).toBe(`{"key":"r1","request":${body}}\n`);
    expect(encodeInline({ key: "r1", body })).toBe(`{"request":${body},"metadata":{"key":"r1"}}`);
  });

  it("escapes the key, and keeps a pretty-printed body on one line", () => {
    const encoded = encodeLine({ key: 'r"1', body: '{\r\n  "contents": []\n}' });
    expect(encoded.indexOf("\n")).toBe(encoded.length - 1);
    expect(JSON.parse(encoded)).toEqual({ key: 'r"1', request: { contents: [] } });
  });
});

describe("decoding", () => {
  const ok = { candidates: [] };
  it.each<[string, object | undefined]>([
    ['{"key":"r1","response":{"candidates":[]}}', { key: "r1", response: ok }],
    ['{"response":{"candidates":[]},"key":"r1"}\r', { key: "r1", response: ok }],
    ['\uFEFF{"key":"r1","response":{"candidates":[]}}', { key: "r1", response: ok }],
    ['{"metadata":{"key":"r1"},"response":{"candidates":[]}}', { key: "r1", response: ok }],
    ['{"custom_id":"r1","response":{"candidates":[]}}', { key: "r1", response: ok }],
    ['{"metadata":{"custom_id":"r1"},"response":{"candidates":[]}}', { key: "r1", response: ok }],
    [
      '{"key":"r1","response":{"embedding":{"values":[1]},"tokenCount":"1"}}',
      { key: "r1", response: { embedding: { values: [1] }, tokenCount: "1" } },
    ],
    ['{"key":"r1","candidates":[]}', { key: "r1", response: ok }],
    ['{"key":"r1","response":{"candidates":[]},"status":""}', { key: "r1", response: ok }],
    ['{"key":"r1","response":{"candidates":[]},"error":null}', { key: "r1", response: ok }],
    ['{"key":"r1","error":{"code":13,"message":"m"}}', { key: "r1", error: { code: 13, message: "m" } }],
    ['{"key":"r1","status":{"code":8,"message":"m"}}', { key: "r1", error: { code: 8, message: "m" } }],
    ['{"key":"r1","response":null,"error":{"code":3,"message":"m"}}', { key: "r1", error: { code: 3, message: "m" } }],
    ['{"key":"r1","response":null}', { key: "r1", problem: "a null response" }],
    ['{"key":"r1"}', { key: "r1", problem: "neither a response nor an error" }],
    ['{"key":"r1","response":"text"}', { key: "r1", problem: "a response that is not an object" }],
    ['{"key":"r1","response":[]}', { key: "r1", problem: "a response that is not an object" }],
    ['{"candidates":[],"usageMetadata":{}}', { key: undefined, problem: "a response without a key" }],
    ['{"response":{"candidates":[]}}', { key: undefined, problem: "a response without a key" }],
    ['{"error":{"code":13}}', { key: undefined, problem: "an error without a key" }],
    ['{"key":"","response":{}}', { key: undefined, problem: "a response without a key" }],
    ['{"key":{"a":1},"response":{}}', { key: undefined, problem: "a response without a key" }],
    ["{}", { key: undefined, problem: "an item without a key" }],
    ["[]", { key: undefined, problem: "an item that is not an object" }],
    ["null", { key: undefined, problem: "an item that is not an object" }],
    ["12", { key: undefined, problem: "an item that is not an object" }],
    ['{"key":"r1","resp', { key: undefined, problem: "a line that is not JSON" }],
    ["", undefined],
    [" \t\r", undefined],
  ])("%s", (text, row) => {
    expect(line(text)).toEqual(row);
  });

  it("isolates a line that is not UTF-8", () => {
    expect(decodeLine(Buffer.from([0x7b, 0xff, 0xfe, 0x7d]))).toEqual({ key: undefined, problem: "a line that is not UTF-8" });
  });

  it("never throws and never quotes, whatever is damaged", () => {
    const good = Buffer.from('{"key":"r1","response":{"secret":"prompt text \u2028"},"error":{"code":1}}');
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 1103515245 + 12345) % 2147483648) % below;
    for (let i = 0; i < 2_000; i += 1) {
      const bytes = Buffer.from(good);
      for (let n = random(4); n >= 0; n -= 1) bytes[random(bytes.length)] = random(256);
      const row = decodeLine(bytes.subarray(random(5), bytes.length - random(5)));
      if (row && "problem" in row) expect(row.problem).not.toContain("prompt");
    }
  });

  it.each([[undefined], ["x"], [[]], [() => 1]])("takes %j as an item", (item) => {
    expect(decodeItem(item)).toHaveProperty("problem");
  });
});

describe("splitting", () => {
  const split = async (chunks: (string | Uint8Array)[], max = 1_000) => {
    const source = async function* () {
      for (const chunk of chunks) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    };
    const lines: (string | null)[] = [];
    for await (const items of splitLines(source(), max))
      for (const item of items) lines.push(item.bytes ? `${Buffer.from(item.bytes)}${item.open ? "<" : ""}` : null);
    return lines;
  };

  it("splits at 0x0A only, whatever the chunks", async () => {
    const text = "a\u2028b\u2029c\u0085d\re\n\nüñ🧵\nlast";
    const expected = ["a\u2028b\u2029c\u0085d\re", "", "üñ🧵", "last<"];
    const bytes = Buffer.from(text);
    for (let size = 1; size <= bytes.length; size += 1) {
      const chunks: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
      expect(await split(chunks)).toEqual(expected);
    }
  });

  it("has no last line after a line break, and none in nothing", async () => {
    expect(await split(["a\n"])).toEqual(["a"]);
    expect(await split([])).toEqual([]);
    expect(await split([""])).toEqual([]);
  });

  it("drops a line that is too long, and goes on behind it", async () => {
    expect(await split(["ok\n12345", "6789", "0\nok\n", "123456"], 5)).toEqual(["ok", null, "ok", null]);
  });
});
