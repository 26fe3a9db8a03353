import { BlockedReason, FinishReason } from "@google/genai";
import { describe, expect, it } from "vitest";
import { outcomeOf, outcomeOfMissing } from "./outcome.ts";
import type { Method, ResultRow, RowError } from "./provider.ts";

/** What is done, in short: `deliver`, `fail`, or `2 then fail` for two more tries before it. The class is the error's code, if there is one. */
type Expected = [action: string, code?: string];

function act(row: ResultRow, method: Method = "generateContent"): Expected {
  const outcome = outcomeOf(row, method);
  switch (outcome.type) {
    case "deliver":
      return ["deliver"];
    case "retry_then_deliver":
      return [`${outcome.retries} then deliver`];
    case "retry_then_fail":
      return [`${outcome.retries} then fail`, `${outcome.error.code}${outcome.error.retryable ? "" : ", final"}`];
    case "fail":
      return ["fail", `${outcome.error.code}${outcome.error.retryable ? "" : ", final"}`];
  }
}

const failed = (code: number, over: Partial<RowError> = {}): ResultRow => ({ key: "r1.1", error: { code, message: "no", ...over } });
const answered = (response: unknown): ResultRow => ({ key: "r1.1", response });
const finished = (finishReason: string | undefined, parts?: unknown[]): ResultRow =>
  answered({
    candidates: [{ ...(finishReason === undefined ? {} : { finishReason }), content: { role: "model", ...(parts ? { parts } : {}) } }],
  });
const blocked = (blockReason: string, over: object = {}): ResultRow => answered({ promptFeedback: { blockReason }, ...over });
const text = [{ text: "hello" }];

describe("a row with an error", () => {
  it.each([4, 8, 10, 13, 14, 408, 429, 500, 502, 503, 504, 599])("code %i passes by itself", (code) => {
    expect(act(failed(code))).toEqual(["3 then fail", "request_failed"]);
  });
  it.each([1, 499])("code %i was cancelled, and is asked again while the run wants it", (code) => {
    expect(act(failed(code))).toEqual(["3 then fail", "request_cancelled"]);
  });
  it.each([2, 0, 15, 17, 200, 302, 600, -1, Number.NaN])("code %d says nothing: one more try", (code) => {
    expect(act(failed(code))).toEqual(["1 then fail", "request_failed"]);
  });
  it.each([3, 5, 6, 7, 9, 11, 12, 16, 400, 401, 403, 404, 409, 413, 422])("code %i is final", (code) => {
    expect(act(failed(code))).toEqual(["fail", "request_failed, final"]);
  });
  it("says the code and the service's words, without what they quote", () => {
    const outcome = outcomeOf(
      failed(3, {
        status: "INVALID_ARGUMENT",
        message: 'Invalid value at "contents": "Dear Mrs Smith, your key is AIzaSyA1234567890abcdefghij"\nmore',
      }),
      "generateContent",
    );
    expect(outcome).toMatchObject({ error: { name: "GembatchError", details: { providerCode: 3 } } });
    const message = outcome.type === "fail" ? outcome.error.message : "";
    expect(message).toContain('The provider failed this request (code 3 INVALID_ARGUMENT): Invalid value at "contents"');
    expect(message).not.toMatch(/Smith|AIza|more/);
  });
});

describe("a request without a row", () => {
  it.each<[string, ResultRow]>([
    ["a line that is not JSON", { key: undefined, problem: "the line is not JSON" }],
    ["a line without a key", { key: undefined, problem: "the line has no key" }],
    ["a null response", { key: "r1.1", problem: "the response is null" }],
    ["a response that is null after all", answered(null)],
    ["a response that is a text", answered("hello")],
    ["a response that is a list", answered([])],
  ])("%s is missing: two more tries", (_name, row) => {
    expect(act(row)).toEqual(["2 then fail", "request_missing"]);
    expect(act(row, "embedContent")).toEqual(["2 then fail", "request_missing"]);
    expect(act(row, "rawPredict")).toEqual(["2 then fail", "request_missing"]);
  });
  it("quotes nothing of the line", () => {
    const outcome = outcomeOf({ key: "r1.1", problem: 'unexpected "Dear Mrs Smith, it is' }, "generateContent");
    expect(outcome).toMatchObject({ error: { message: 'The provider returned no answer for this request: unexpected "…".' } });
  });
  it("a line that never came, too", () => {
    expect(outcomeOfMissing("no line")).toMatchObject({
      type: "retry_then_fail",
      retries: 2,
      error: { code: "request_missing", retryable: true },
    });
  });
});

describe("a blocked prompt", () => {
  const byReason: Record<string, string> = {
    BLOCKED_REASON_UNSPECIFIED: "1 then deliver",
    OTHER: "1 then deliver",
    SAFETY: "deliver",
    BLOCKLIST: "deliver",
    PROHIBITED_CONTENT: "deliver",
    IMAGE_SAFETY: "deliver",
    MODEL_ARMOR: "deliver",
    JAILBREAK: "deliver",
    SOMETHING_NEW: "deliver",
  };
  it.each(Object.entries(byReason))("%s: %s", (reason, action) => {
    expect(act(blocked(reason))).toEqual([action]);
    expect(act(blocked(reason, { candidates: [], usageMetadata: { promptTokenCount: 5 } }))).toEqual([action]);
  });
  it("every reason of the SDK is in the table", () => {
    expect(Object.keys(byReason)).toEqual(expect.arrayContaining(Object.values(BlockedReason)));
  });
  it("is judged before its candidates, unless the reason is none", () => {
    expect(act(blocked("SAFETY", { candidates: [{ finishReason: "OTHER" }] }))).toEqual(["deliver"]);
    expect(act(blocked("BLOCKED_REASON_UNSPECIFIED", { candidates: [{ finishReason: "STOP", content: { parts: text } }] }))).toEqual([
      "deliver",
    ]);
  });
});

describe("an answer", () => {
  /** Without parts, and with a text. */
  const byReason: Record<string, [empty: string, withText: string]> = {
    FINISH_REASON_UNSPECIFIED: ["2 then deliver", "deliver"],
    STOP: ["2 then deliver", "deliver"],
    MAX_TOKENS: ["deliver", "deliver"],
    CONTINUATION: ["deliver", "deliver"],
    SAFETY: ["deliver", "deliver"],
    PROHIBITED_CONTENT: ["deliver", "deliver"],
    BLOCKLIST: ["deliver", "deliver"],
    SPII: ["deliver", "deliver"],
    IMAGE_SAFETY: ["deliver", "deliver"],
    IMAGE_PROHIBITED_CONTENT: ["deliver", "deliver"],
    RECITATION: ["1 then deliver", "1 then deliver"],
    IMAGE_RECITATION: ["1 then deliver", "1 then deliver"],
    LANGUAGE: ["deliver", "deliver"],
    OTHER: ["1 then deliver", "1 then deliver"],
    IMAGE_OTHER: ["1 then deliver", "1 then deliver"],
    NO_IMAGE: ["1 then deliver", "1 then deliver"],
    MALFORMED_FUNCTION_CALL: ["2 then deliver", "2 then deliver"],
    MALFORMED_RESPONSE: ["2 then deliver", "2 then deliver"],
    UNEXPECTED_TOOL_CALL: ["2 then deliver", "2 then deliver"],
    TOO_MANY_TOOL_CALLS: ["deliver", "deliver"],
    MISSING_THOUGHT_SIGNATURE: ["deliver", "deliver"],
  };
  it.each(Object.entries(byReason))("%s: %j", (reason, [empty, withText]) => {
    expect(act(finished(reason))).toEqual([empty]);
    expect(act(finished(reason, text))).toEqual([withText]);
  });
  it("every reason of the SDK is in the table", () => {
    expect(Object.keys(byReason)).toEqual(expect.arrayContaining(Object.values(FinishReason)));
  });

  it.each<[string, ResultRow, string]>([
    ["a function call", finished("STOP", [{ functionCall: { name: "f", args: {} } }]), "deliver"],
    [
      "a call that the service answered itself",
      finished("STOP", [{ functionCall: { name: "f" } }, { functionResponse: { name: "f" } }]),
      "deliver",
    ],
    ["inline data", finished("STOP", [{ inlineData: { mimeType: "image/png", data: "" } }]), "deliver"],
    ["a text with a signature", finished("STOP", [{ text: "a", thoughtSignature: "x" }]), "deliver"],
    ["a thought before a text", finished("STOP", [{ text: "hm", thought: true }, { text: "a" }]), "deliver"],
    ["an empty text", finished("STOP", [{ text: "" }]), "2 then deliver"],
    ["only thoughts", finished("STOP", [{ text: "hm", thought: true }]), "2 then deliver"],
    ["only a signature", finished("STOP", [{ thoughtSignature: "x" }]), "2 then deliver"],
    ["parts that are none", finished("STOP", [null, "text", 5]), "2 then deliver"],
    ["no content at all", answered({ candidates: [{ finishReason: "STOP" }] }), "2 then deliver"],
    ["content without a reason", finished(undefined, text), "deliver"],
    ["neither content nor a reason", finished(undefined), "2 then deliver"],
    ["truncated while thinking", finished("MAX_TOKENS", [{ text: "hm", thought: true }]), "deliver"],
    ["to be continued", answered({ candidates: [{ finishReason: "CONTINUATION", continuationToken: "t" }] }), "deliver"],
    ["no candidates", answered({ candidates: [] }), "2 then deliver"],
    ["only usage", answered({ usageMetadata: {} }), "2 then deliver"],
    ["feedback without a reason", answered({ promptFeedback: {} }), "2 then deliver"],
    [
      "feedback that is null",
      answered({ promptFeedback: null, candidates: [{ finishReason: "STOP", content: { parts: text } }] }),
      "deliver",
    ],
    ["candidates that are none", answered({ candidates: [null, 5] }), "2 then deliver"],
    [
      "one good candidate of two",
      answered({ candidates: [{ finishReason: "OTHER" }, { finishReason: "STOP", content: { parts: text } }] }),
      "deliver",
    ],
    ["the first of several bad ones", answered({ candidates: [{ finishReason: "OTHER" }, { finishReason: "STOP" }] }), "1 then deliver"],
  ])("%s", (_name, row, action) => {
    expect(act(row)).toEqual([action]);
  });
  it("says why it is asked again", () => {
    expect(outcomeOf(finished("RECITATION"), "generateContent")).toMatchObject({ why: "finish reason RECITATION" });
    expect(outcomeOf(blocked("OTHER"), "generateContent")).toMatchObject({ why: "its prompt was blocked: OTHER" });
  });
});

describe("an embedding", () => {
  it.each<[string, unknown, string]>([
    ["with values", { embedding: { values: [0.1] }, tokenCount: "1" }, "deliver"],
    ["in a list", { embeddings: [{ values: [0.1] }] }, "deliver"],
    ["without values", { embedding: { values: [] } }, "2 then deliver"],
    ["without anything", {}, "2 then deliver"],
  ])("%s", (_name, response, action) => {
    expect(act(answered(response), "embedContent")).toEqual([action]);
  });
  it("fails like any other row", () => {
    expect(act(failed(13), "embedContent")).toEqual(["3 then fail", "request_failed"]);
  });
});

describe("an answer of another publisher's model", () => {
  it.each<[string, unknown]>([
    ["in Anthropic's form", { type: "message", content: [{ type: "text", text: "a" }], stop_reason: "end_turn" }],
    ["that was cut", { type: "message", content: [], stop_reason: "max_tokens" }],
    ["that was refused", { type: "message", content: [], stop_reason: "refusal" }],
    ["in OpenAI's form", { choices: [{ message: { content: "a" }, finish_reason: "stop" }] }],
    ["that was cut, there", { choices: [{ message: { content: "" }, finish_reason: "length" }] }],
    ["that was filtered", { choices: [{ message: { content: null }, finish_reason: "content_filter" }] }],
    ["that a later version may give", { finish_reason: "OTHER", candidates: [] }],
  ])("%s is delivered as it is: it is billed", (_name, response) => {
    expect(act(answered(response), "rawPredict")).toEqual(["deliver"]);
  });
  it("fails like any other row", () => {
    expect(act(failed(13), "rawPredict")).toEqual(["3 then fail", "request_failed"]);
    expect(act(failed(529), "rawPredict")).toEqual(["3 then fail", "request_failed"]);
    expect(act(failed(400), "rawPredict")).toEqual(["fail", "request_failed, final"]);
  });
});
