import { describe, expect, it } from "vitest";
import type { Lane } from "../../core/provider.ts";
import { embedRequest } from "./embeddings.ts";
import { decodeItem, decodeLine, decodeTableRow, encodeLine } from "./rows.ts";
import { decodeLabel, encodeLabel } from "./row-label.ts";
import { parseStatus } from "./row-status.ts";

const lane: Lane = { provider: "vertex", model: "gemini-2.5-flash", method: "generateContent" };
const contents = [{ role: "user", parts: [{ text: "a\u2028b 🧵\n" }] }];
const encode = (body: unknown, on: Partial<Lane> = {}, typed = true) => {
  const line = encodeLine({ key: "r7.2", body: typeof body === "string" ? body : JSON.stringify(body) }, { ...lane, ...on }, typed);
  expect(line.indexOf("\n")).toBe(line.length - 1);
  return JSON.parse(line) as unknown;
};

describe("encoding", () => {
  it("sends the key beside the request and as a label in it", () => {
    expect(encode({ contents })).toEqual({ key: "r7.2", request: { contents, labels: { gb_row: "r7_02" } } });
    expect(encode({ contents, labels: { team: "a" } })).toEqual({
      key: "r7.2",
      request: { contents, labels: { team: "a", gb_row: "r7_02" } },
    });
  });

  it("leaves out empty settings for typed columns, and sends all to a JSON column", () => {
    const labels = { gb_row: "r7_02" };
    expect(encode({ contents, generationConfig: {} })).toEqual({ key: "r7.2", request: { contents, labels } });
    expect(encode({ contents, generationConfig: {} }, {}, false)).toEqual({
      key: "r7.2",
      request: { contents, generationConfig: {}, labels },
    });
  });

  it("gives the role that Vertex AI insists on", () => {
    const given = [{ parts: [{ text: "a" }] }, { role: "model", parts: [{ text: "b" }] }];
    const sent = [{ role: "user", parts: [{ text: "a" }] }, given[1]];
    expect(encode({ contents: given })).toMatchObject({ request: { contents: sent } });
  });

  it("moves the options of an embedding where Vertex AI has them", () => {
    const content = { parts: [{ text: "a" }] };
    const on = { method: "embedContent" as const, model: "gemini-embedding-001" };
    expect(encode({ content }, on)).toEqual({ key: "r7.2", request: { content } });
    expect(encode({ content, taskType: "RETRIEVAL_QUERY", outputDimensionality: 8, title: "t" }, on)).toEqual({
      key: "r7.2",
      request: { content, embed_content_config: { task_type: "RETRIEVAL_QUERY", output_dimensionality: 8, title: "t" } },
    });
    expect(embedRequest({ content, embedContentConfig: { outputDimensionality: 8 }, task_type: "X" }, "direct")).toEqual({
      content,
      embedContentConfig: { taskType: "X", outputDimensionality: 8 },
    });
  });

  it("passes bodies of other publishers through, character by character", () => {
    const body = '{"messages":[{"role":"user","content":"a\u2028b"}],"max_tokens":1.0e2}';
    const claude = encodeLine({ key: "r1", body }, { ...lane, model: "publishers/anthropic/models/claude" }, true);
    expect(claude).toBe(`{"custom_id":"r1","request":${body}}\n`);
    const llama = encodeLine({ key: "r1", body }, { ...lane, model: "publishers/meta/models/llama-maas" }, true);
    expect(llama).toBe(`{"custom_id":"r1","method":"POST","url":"/v1/chat/completions","body":${body}}\n`);
    expect(encode('{\n"messages":\r\n[]}', { model: "publishers/anthropic/models/claude" })).toEqual({
      custom_id: "r7.2",
      request: { messages: [] },
    });
  });

  it.each(["[]", "12", "null", "{", ""])("refuses %j by the key of its row", (body) => {
    expect(() => encodeLine({ key: "r7.2", body }, lane, true)).toThrow(expect.objectContaining({ failure: "refused", row: "r7.2" }));
  });
});

describe("labels", () => {
  it.each([
    ["r01jd8.12", "r01jd8_012"],
    ["rAbC.1", "r_ab_c_01"],
    ["r-a_b.1", "r-a_1b_01"],
    ["r0", "r0"],
  ])("%s is %s", (key, label) => {
    expect(encodeLabel(key)).toBe(label);
    expect(label).toMatch(/^[a-z0-9_-]{0,63}$/);
    expect(decodeLabel(label)).toBe(key);
  });

  it.each(["r ü", "r/1", "", `r${"x".repeat(70)}`, `r${"X".repeat(40)}`])("has none for %j", (key) =>
    expect(encodeLabel(key)).toBeUndefined(),
  );
  it.each(["a_", "a__", "a_2", "A", "a.b", ""])("reads nothing in %j", (label) => expect(decodeLabel(label)).toBeUndefined());
});

describe("decoding", () => {
  const response = { candidates: [{ content: { parts: [{ text: "ok" }] } }] };
  const echo = { contents, labels: { gb_row: "r7_02" }, generationConfig: null };

  it.each<[string, object, object]>([
    [
      "a row as it comes",
      { status: "", processed_time: "2024-11-13T14:04:28.376+00:00", request: echo, response, key: "r7.2" },
      { key: "r7.2", response },
    ],
    ["the label alone", { status: "", request: echo, response }, { key: "r7.2", response }],
    ["the key alone", { status: "", request: { contents }, response, key: "r7.2" }, { key: "r7.2", response }],
    ["custom_id", { custom_id: "r7.2", response, status: "" }, { key: "r7.2", response }],
    ["no status", { key: "r7.2", response }, { key: "r7.2", response }],
    ["a status beside an answer", { key: "r7.2", response, status: "done" }, { key: "r7.2", response }],
    [
      "an embedding",
      { key: "r7.2", response: { embedding: { values: [1] } }, status: "" },
      { key: "r7.2", response: { embedding: { values: [1] } } },
    ],
    [
      "a bare embedding",
      { key: "r7.2", embedding: { values: [1] }, status: "" },
      { key: "r7.2", response: { embedding: { values: [1] } } },
    ],
    ["a key that became a number", { key: 7, request: echo, response }, { key: "r7.2", response }],
    [
      "a failure",
      { key: "r7.2", response: {}, status: 'Bad Request: {"error": {"code": 400, "message": "bad role", "status": "INVALID_ARGUMENT"}}' },
      { key: "r7.2", error: { code: 3, message: "bad role", status: "INVALID_ARGUMENT" } },
    ],
    [
      "a failure without an answer",
      { key: "r7.2", status: "Internal error occurred." },
      { key: "r7.2", error: { code: 13, message: "Internal error occurred." } },
    ],
    ["an error object", { key: "r7.2", error: { code: 8, message: "m" } }, { key: "r7.2", error: { code: 8, message: "m" } }],
    ["a null", { key: "r7.2", response: null, status: "" }, { key: "r7.2", problem: "a null response" }],
    ["an empty answer", { key: "r7.2", response: {}, status: "" }, { key: "r7.2", problem: "an empty response" }],
    ["nothing", { key: "r7.2" }, { key: "r7.2", problem: "neither a response nor an error" }],
    ["a text", { key: "r7.2", response: "text" }, { key: "r7.2", problem: "a response that is not an object" }],
    ["no key", { request: { contents }, response }, { key: undefined, problem: "a response without a key" }],
    ["no key of ours", { request: { labels: { gb_row: "__" } }, response }, { key: undefined, problem: "a response without a key" }],
    ["a failure without a key", { status: "Internal error", response: {} }, { key: undefined, problem: "an error without a key" }],
    [
      "a key and another label",
      { key: "r8.1", request: echo, response },
      { key: undefined, problem: "an item whose key and label differ" },
    ],
    ["an empty row", {}, { key: undefined, problem: "an item without a key" }],
  ])("%s", (_name, item, row) => {
    expect(decodeItem(item)).toEqual(row);
    expect(decodeLine(Buffer.from(JSON.stringify(item)))).toEqual(row);
  });

  it("reads rows of tables, whose JSON comes as text", () => {
    const row = { key: "r7.2", request: JSON.stringify(echo), response: JSON.stringify(response), status: "" };
    expect(decodeTableRow(row)).toEqual({ key: "r7.2", response });
    expect(decodeTableRow({ ...row, key: null })).toEqual({ key: "r7.2", response });
    expect(decodeTableRow({ ...row, response: null, status: "Internal error" })).toMatchObject({ error: { code: 13 } });
    expect(decodeTableRow({ ...row, response: "" })).toEqual({ key: "r7.2", problem: "a null response" });
    expect(decodeTableRow({ ...row, response: "null", status: null })).toEqual({ key: "r7.2", problem: "a null response" });
    expect(decodeTableRow({ ...row, response: "{oops" })).toEqual({ key: "r7.2", problem: "a response that is not an object" });
  });

  it("reads rows of Claude", () => {
    const message = {
      type: "message",
      content: [{ type: "text", text: "hi" }],
      stop_reason: "end_turn",
      usage: { input_tokens: 1, output_tokens: 2 },
    };
    expect(decodeItem({ custom_id: "r1", response: message, status: "" }, "anthropic")).toEqual({ key: "r1", response: message });
    const refused = { type: "error", error: { type: "invalid_request_error", message: "max_tokens: Field required" } };
    expect(decodeItem({ custom_id: "r1", response: refused, status: "" }, "anthropic")).toEqual({
      key: "r1",
      error: { code: 400, message: "max_tokens: Field required" },
    });
    const overloaded = { type: "error", error: { type: "overloaded_error", message: "Overloaded" } };
    expect(decodeItem({ custom_id: "r1", response: overloaded }, "anthropic")).toMatchObject({ error: { code: 529 } });
  });

  it("reads rows of open models, with and without an envelope", () => {
    const completion = { object: "chat.completion", choices: [{ message: { content: "hi" } }], usage: {} };
    expect(decodeItem({ custom_id: "r1", response: completion }, "open")).toEqual({ key: "r1", response: completion });
    expect(decodeItem({ custom_id: "r1", response: { status_code: 200, request_id: "x", body: completion } }, "open")).toEqual({
      key: "r1",
      response: completion,
    });
    const refused = { status_code: 429, body: { error: { message: "slow down", type: "rate_limit_error" } } };
    expect(decodeItem({ custom_id: "r1", response: refused }, "open")).toMatchObject({ key: "r1", error: { code: 429 } });
    expect(decodeItem({ custom_id: "r1", response: { status_code: 500, body: {} } }, "open")).toEqual({
      key: "r1",
      error: { code: 500, message: "" },
    });
  });
});

describe("the text of a status", () => {
  it.each<[string, object | undefined]>([
    ["", undefined],
    [" ", undefined],
    ["OK", undefined],
    [
      'Bad Request: {"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}',
      { code: 3, message: "m", status: "INVALID_ARGUMENT" },
    ],
    [
      'Internal error occurred. Failed to get generateContentResponse: {"error": {"code": 404, "message": "no cache", "status": "NOT_FOUND"}}',
      { code: 5, message: "no cache", status: "NOT_FOUND" },
    ],
    ['Too Many Requests: {"error": {"code": 429, "message": "m"}}', { code: 429, message: "m" }],
    ['Internal: {"error": {"code": 500}}', { code: 500, message: "Internal" }],
    ['Bad Request: {"error": {"code": 400, "message": "cut', { code: 400, message: "Bad Request" }],
    ["Bad Request: {oops", { code: 3, message: "Bad Request" }],
    ['{"code": 14, "message": "m"}', { code: 14, message: "m" }],
    ["Deadline Exceeded", { code: 4, message: "Deadline Exceeded" }],
    ["Resource exhausted, please try again later.", { code: 8, message: "Resource exhausted, please try again later." }],
    ["The request was cancelled", { code: 1, message: "The request was cancelled" }],
    ["Service Unavailable", { code: 14, message: "Service Unavailable" }],
    ["something new", { code: 2, message: "something new" }],
  ])("%s", (status, error) => expect(parseStatus(status)).toEqual(error));

  it("quotes no prompt", () => {
    const status = `Bad Request: {"error": {"code": 400, "message": "Invalid value at 'contents': \\"my secret prompt, which is long enough\\"", "status": "INVALID_ARGUMENT"}}`;
    expect(JSON.stringify(parseStatus(status))).not.toContain("secret prompt");
    expect(JSON.stringify(parseStatus('Bad Request "my secret prompt, that is long"'))).not.toContain("secret prompt");
  });
});
