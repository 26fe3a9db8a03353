import { describe, expect, it } from "vitest";
import { toRowError } from "../shared/row-error.ts";
import { type Call, errorFromAnswer, errorFromThrown } from "./errors.ts";

const google = (code: number, status: string, message: string, details: unknown[] = []): string =>
  JSON.stringify({ error: { code, message, status, details } });
const html = "<!DOCTYPE html><title>Error 502 (Server Error)!!1</title>";
const noFile = "You do not have permission to access the File abc or it may not exist.";
const badKey = google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [{ reason: "API_KEY_INVALID" }]);

const table: [Call, number, string, string][] = [
  ["create", 400, google(400, "INVALID_ARGUMENT", "Request contains an invalid argument."), "refused"],
  ["create", 400, badKey, "denied"],
  ["create", 400, google(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."), "denied"],
  ["create", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), "denied"],
  ["create", 400, google(400, "FAILED_PRECONDITION", "The File abc is not in an ACTIVE state and usage is not allowed."), "throttled"],
  ["create", 400, google(400, "INVALID_ARGUMENT", "File files/abc not found."), "missing"],
  ["create", 400, google(400, "INVALID_ARGUMENT", "Bad file: field not found in line 3."), "refused"],
  ["create", 400, html, "ambiguous"],
  ["create", 401, google(401, "UNAUTHENTICATED", "no"), "denied"],
  ["create", 403, google(403, "PERMISSION_DENIED", "Generative Language API has not been used in project 1"), "denied"],
  ["create", 403, google(403, "PERMISSION_DENIED", noFile), "missing"],
  ["create", 403, html, "ambiguous"],
  ["create", 404, google(404, "NOT_FOUND", "models/x is not found for API version v1beta"), "refused"],
  ["create", 404, html, "ambiguous"],
  ["create", 409, google(409, "ABORTED", "conflict"), "ambiguous"],
  ["create", 408, google(408, "X", "timeout"), "ambiguous"],
  ["create", 413, html, "refused"],
  ["create", 429, google(429, "RESOURCE_EXHAUSTED", "quota", [{ "@type": "Help" }]), "throttled"],
  ["create", 429, html, "throttled"],
  ["create", 499, google(499, "CANCELLED", "x"), "ambiguous"],
  ["create", 500, google(500, "INTERNAL", "x"), "ambiguous"],
  ["create", 502, html, "ambiguous"],
  ["create", 503, google(503, "UNAVAILABLE", "x"), "ambiguous"],
  ["create", 504, google(504, "DEADLINE_EXCEEDED", "x"), "ambiguous"],
  ["create", 200, "", "ambiguous"],
  ["create", 200, "{}", "ambiguous"],
  ["create", 200, google(400, "INVALID_ARGUMENT", "said with 200"), "ambiguous"],
  ["create", 302, "", "unavailable"],
  ["ask", 400, google(400, "INVALID_ARGUMENT", "Request contains an invalid argument."), "refused"],
  ["ask", 400, badKey, "denied"],
  ["ask", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), "denied"],
  ["ask", 400, google(400, "FAILED_PRECONDITION", "The File abc is not in an ACTIVE state and usage is not allowed."), "refused"],
  ["ask", 400, html, "ambiguous"],
  ["ask", 401, google(401, "UNAUTHENTICATED", "no"), "denied"],
  ["ask", 403, google(403, "PERMISSION_DENIED", "Generative Language API has not been used in project 1"), "denied"],
  ["ask", 403, google(403, "PERMISSION_DENIED", noFile), "refused"],
  ["ask", 404, google(404, "NOT_FOUND", "models/x is not found for API version v1beta"), "refused"],
  ["ask", 404, html, "ambiguous"],
  ["ask", 408, google(408, "X", "timeout"), "ambiguous"],
  ["ask", 409, google(409, "ABORTED", "conflict"), "ambiguous"],
  ["ask", 413, html, "refused"],
  ["ask", 429, google(429, "RESOURCE_EXHAUSTED", "quota"), "throttled"],
  ["ask", 429, html, "throttled"],
  ["ask", 499, google(499, "CANCELLED", "x"), "ambiguous"],
  ["ask", 500, google(500, "INTERNAL", "x"), "ambiguous"],
  ["ask", 502, html, "ambiguous"],
  ["ask", 503, google(503, "UNAVAILABLE", "The model is overloaded."), "throttled"],
  ["ask", 503, html, "throttled"],
  ["ask", 504, google(504, "DEADLINE_EXCEEDED", "x"), "ambiguous"],
  ["ask", 200, "", "ambiguous"],
  ["ask", 302, "", "unavailable"],
  ["upload", 500, google(500, "INTERNAL", "x"), "unavailable"],
  ["upload", 400, badKey, "denied"],
  ["upload", 400, google(400, "INVALID_ARGUMENT", "x"), "refused"],
  ["upload", 404, google(404, "NOT_FOUND", "session"), "unavailable"],
  ["upload", 413, html, "refused"],
  ["upload", 429, google(429, "RESOURCE_EXHAUSTED", "x"), "throttled"],
  ["get", 404, google(404, "NOT_FOUND", "x"), "missing"],
  ["get", 404, html, "unavailable"],
  ["get", 403, google(403, "PERMISSION_DENIED", "x"), "denied"],
  ["get", 200, html, "unavailable"],
  ["get", 503, html, "unavailable"],
  ["list", 429, google(429, "RESOURCE_EXHAUSTED", "x"), "throttled"],
  ["list", 400, badKey, "denied"],
  ["download", 404, google(404, "NOT_FOUND", "x"), "missing"],
  ["download", 404, "Not Found", "missing"],
  ["download", 404, html, "unavailable"],
  ["download", 403, google(403, "PERMISSION_DENIED", noFile), "missing"],
  ["download", 500, "", "unavailable"],
  ["delete", 404, google(404, "NOT_FOUND", "x"), "missing"],
];

describe("what an answer means", () => {
  it.each(table)("%s, HTTP %i, %s: %s", (call, status, body, failure) => {
    const error = errorFromAnswer(call, { status, body });
    expect(error.failure).toBe(failure);
    expect(error.status).toBe(status);
  });

  it("takes the delay from RetryInfo, else from the header, else from nowhere", () => {
    const info = google(429, "RESOURCE_EXHAUSTED", "x", [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "1.5s" }]);
    expect(errorFromAnswer("create", { status: 429, body: info, retryAfter: "9" }).retryAfterMs).toBe(1500);
    expect(errorFromAnswer("create", { status: 429, body: "", retryAfter: "9" }).retryAfterMs).toBe(9000);
    expect(errorFromAnswer("create", { status: 429, body: "", retryAfter: "Wed, 21 Oct" }).retryAfterMs).toBe(undefined);
    expect(errorFromAnswer("ask", { status: 503, body: "", retryAfter: "20" }).retryAfterMs).toBe(20_000);
  });

  it.each([
    ["Failed to parse row 17.", 16],
    ["Invalid JSON at line 17: x", 16],
    ["Line number 1 is bad", 0],
    ["Invalid value at 'batch.input_config.requests.requests[16].request.contents'", 16],
    ["requests[0]: no contents", 0],
    ["error at index 4", 4],
    ["Bad request with key: r12.", "r12"],
    ["Bad request with key 'r12'", "r12"],
    ['Invalid row {"key":"r12"}', "r12"],
    ["Request contains an invalid argument.", undefined],
    ["Unknown name key in a request", undefined],
  ])("finds the row in %j: %j", (message, row) => {
    expect(errorFromAnswer("create", { status: 400, body: google(400, "INVALID_ARGUMENT", message) }).row).toBe(row);
  });

  it("finds the row in the details", () => {
    const details = [{ fieldViolations: [{ field: "batch.input_config.requests.requests[3].request", description: "bad" }] }];
    expect(errorFromAnswer("create", { status: 400, body: google(400, "INVALID_ARGUMENT", "Invalid.", details) }).row).toBe(3);
  });
});

describe("what a thrown error means", () => {
  const failed = (cause: object): TypeError => new TypeError("fetch failed", { cause: Object.assign(new Error("c"), cause) });
  const thrown: [string, unknown, string, string][] = [
    ["refused", failed({ code: "ECONNREFUSED" }), "unavailable", "unavailable"],
    ["no name", failed({ code: "ENOTFOUND" }), "unavailable", "unavailable"],
    ["connect timeout", failed({ code: "UND_ERR_CONNECT_TIMEOUT" }), "unavailable", "unavailable"],
    ["all addresses refused", failed({ errors: [{ code: "ECONNREFUSED" }, { code: "ENETUNREACH" }] }), "unavailable", "unavailable"],
    [
      "one address unclear",
      failed({ code: "ECONNREFUSED", errors: [{ code: "ECONNREFUSED" }, { code: "ECONNRESET" }] }),
      "ambiguous",
      "unavailable",
    ],
    ["connect ETIMEDOUT", failed({ code: "ETIMEDOUT", syscall: "connect" }), "unavailable", "unavailable"],
    ["read ETIMEDOUT", failed({ code: "ETIMEDOUT", syscall: "read" }), "ambiguous", "unavailable"],
    ["reset", failed({ code: "ECONNRESET" }), "ambiguous", "unavailable"],
    ["socket closed", failed({ code: "UND_ERR_SOCKET" }), "ambiguous", "unavailable"],
    ["abort", new DOMException("x", "AbortError"), "ambiguous", "unavailable"],
    ["timeout", new DOMException("x", "TimeoutError"), "ambiguous", "unavailable"],
    ["terminated", new TypeError("terminated"), "ambiguous", "unavailable"],
    ["not an error", "text", "ambiguous", "unavailable"],
  ];
  it.each(thrown)("%s", (_name, error, create, get) => {
    expect(errorFromThrown("create", error).failure).toBe(create);
    expect(errorFromThrown("ask", error).failure).toBe(create);
    expect(errorFromThrown("get", error).failure).toBe(get);
    expect(errorFromThrown("create", error, false).failure).toBe("unavailable");
  });
});

describe("messages", () => {
  const secrets: [string, string][] = [
    ["Consumer 'api_key:AIzaSyA1234567890123456789012345678901' has been suspended.", "AIza"],
    ["See https://x.example/upload/files?upload_id=SECRETSECRET&k=1 now", "SECRET"],
    ["Invalid value at 'contents' (TYPE_STRING), \"my secret prompt\"", "secret"],
    ["Unexpected token.\nmy secret prompt\n^", "secret"],
  ];
  it.each(secrets)("of failed calls and rows never carry %j", (message, secret) => {
    for (const call of ["create", "ask", "get"] as const) {
      const answered = errorFromAnswer(call, { status: 400, body: google(400, message, message) });
      expect(answered.message).not.toContain(secret);
      expect(errorFromThrown(call, new Error(message)).message).not.toContain(secret);
    }
    expect(JSON.stringify(toRowError({ code: 3, message, status: message }))).not.toContain(secret);
    expect(JSON.stringify(toRowError(message))).not.toContain(secret);
  });

  it("keep names of fields, and stay short", () => {
    const message = `Unknown name "responseSchem" at 'requests[0]'. ${"and so on ".repeat(500)}`;
    const failed = errorFromAnswer("create", { status: 400, body: google(400, message, message) });
    expect(failed.message).toContain('"responseSchem"');
    expect(failed.message.length).toBeLessThanOrEqual(500);
    expect(errorFromThrown("get", new Error(message)).message.length).toBeLessThanOrEqual(500);
    expect(toRowError({ code: 3, message })!.message.length).toBeLessThanOrEqual(500);
  });
});

describe("errors of rows", () => {
  it.each([
    [
      { code: 13, message: "m" },
      { code: 13, message: "m" },
    ],
    [
      { code: 400, message: "m", status: "INVALID_ARGUMENT" },
      { code: 400, message: "m", status: "INVALID_ARGUMENT" },
    ],
    [
      { code: "RESOURCE_EXHAUSTED", message: "m" },
      { code: 8, message: "m", status: "RESOURCE_EXHAUSTED" },
    ],
    [{ code: "13" }, { code: 13, message: "" }],
    [{ status: "UNAVAILABLE" }, { code: 14, message: "", status: "UNAVAILABLE" }],
    [{ message: "m" }, { code: 2, message: "m" }],
    ["INTERNAL", { code: 13, message: "INTERNAL" }],
    ["something went wrong", { code: 2, message: "something went wrong" }],
    [{ code: 0 }, undefined],
    [{}, undefined],
    ["", undefined],
    ["OK", undefined],
    [null, undefined],
    [undefined, undefined],
  ])("%j", (value, error) => {
    expect(toRowError(value)).toEqual(error);
  });
});
