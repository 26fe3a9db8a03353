import { describe, expect, it } from "vitest";
import { outcomeOfError, outcomeOfMissing, outcomeOfResponse } from "./outcome.ts";

const candidate = (finishReason: string, parts?: unknown[]) => ({
  candidates: [{ finishReason, content: { role: "model", ...(parts ? { parts } : {}) } }],
});
const text = [{ text: "hello" }];

describe("outcomeOfError", () => {
  it.each([4, 8, 10, 13, 14, 408, 429, 500, 502, 503])("code %i passes by itself", (code) => {
    expect(outcomeOfError({ code, message: "m" })).toMatchObject({ type: "retry_then_fail", retries: 3, error: { retryable: true } });
  });
  it.each([3, 5, 7, 9, 11, 12, 16, 400, 401, 403, 404])("code %i is final", (code) => {
    expect(outcomeOfError({ code, message: "m" })).toMatchObject({ type: "fail", error: { code: "request_failed", retryable: false } });
  });
  it("cancelled rows are asked again", () => {
    expect(outcomeOfError({ code: 1, message: "m" })).toMatchObject({ type: "retry_then_fail", error: { code: "request_cancelled" } });
  });
  it("unknown errors are worth one more try", () => {
    expect(outcomeOfError({ code: 2, message: "m" })).toMatchObject({ type: "retry_then_fail", retries: 1 });
  });
});

describe("outcomeOfMissing", () => {
  it("is worth two more tries", () => {
    expect(outcomeOfMissing("no line")).toMatchObject({ type: "retry_then_fail", retries: 2, error: { code: "request_missing" } });
  });
});

describe("outcomeOfResponse", () => {
  it.each<[string, unknown, object]>([
    ["a text", candidate("STOP", text), { type: "deliver" }],
    ["a function call", candidate("STOP", [{ functionCall: { name: "f", args: {} } }]), { type: "deliver" }],
    ["inline data", candidate("STOP", [{ inlineData: { mimeType: "image/png", data: "" } }]), { type: "deliver" }],
    ["no parts", candidate("STOP"), { type: "retry_then_deliver", retries: 2 }],
    ["an empty text", candidate("STOP", [{ text: "" }]), { type: "retry_then_deliver", retries: 2 }],
    ["only thoughts", candidate("STOP", [{ text: "hm", thought: true }]), { type: "retry_then_deliver", retries: 2 }],
    ["only a signature", candidate("STOP", [{ thoughtSignature: "x" }]), { type: "retry_then_deliver", retries: 2 }],
    ["truncated", candidate("MAX_TOKENS"), { type: "deliver" }],
    ["to be continued", { candidates: [{ finishReason: "CONTINUATION", continuationToken: "t" }] }, { type: "deliver" }],
    ["blocked output", candidate("SAFETY"), { type: "deliver" }],
    ["recitation", candidate("RECITATION"), { type: "deliver" }],
    ["unsupported language", candidate("LANGUAGE"), { type: "deliver" }],
    ["unclear", candidate("OTHER"), { type: "retry_then_deliver", retries: 1 }],
    ["no image", candidate("NO_IMAGE"), { type: "retry_then_deliver", retries: 1 }],
    ["malformed call", candidate("MALFORMED_FUNCTION_CALL"), { type: "retry_then_deliver", retries: 2 }],
    ["unexpected call", candidate("UNEXPECTED_TOOL_CALL", text), { type: "retry_then_deliver", retries: 2 }],
    ["too many calls", candidate("TOO_MANY_TOOL_CALLS"), { type: "deliver" }],
    ["a reason from the future", candidate("MISSING_THOUGHT_SIGNATURE"), { type: "deliver" }],
    ["no candidates", { candidates: [] }, { type: "deliver" }],
    ["only usage", { usageMetadata: {} }, { type: "deliver" }],
    ["blocked prompt", { promptFeedback: { blockReason: "SAFETY" } }, { type: "deliver" }],
    ["prompt blocked for OTHER", { promptFeedback: { blockReason: "OTHER" } }, { type: "retry_then_deliver", retries: 1 }],
    ["null", null, { type: "retry_then_fail" }],
    ["a text instead of an object", "hello", { type: "retry_then_fail" }],
  ])("%s", (_name, response, expected) => {
    expect(outcomeOfResponse(response)).toMatchObject(expected);
  });
});
