import { describe, expect, it } from "vitest";
import { GembatchError } from "../../core/errors.ts";
import { ProviderError } from "../../core/provider.ts";
import { type Call, errorFromAnswer, errorFromThrown } from "./errors.ts";
import { httpCode, serviceError } from "./service-errors.ts";

const envelope = (code: number, status: string, message = "m", details: object[] = []) =>
  JSON.stringify({ error: { code, status, message, details } });
const failureOf = (call: Call, status: number, body: string) => errorFromAnswer(call, { status, body }).failure;

describe("answers of Vertex AI", () => {
  it.each<[Call, number, string, string]>([
    ["create", 400, envelope(400, "INVALID_ARGUMENT"), "refused"],
    ["create", 404, envelope(404, "NOT_FOUND", "The PublisherModel publishers/google/models/x does not exist."), "refused"],
    ["create", 403, envelope(403, "PERMISSION_DENIED"), "denied"],
    ["create", 401, envelope(401, "UNAUTHENTICATED"), "denied"],
    ["create", 401, "", "denied"],
    ["create", 429, envelope(429, "RESOURCE_EXHAUSTED"), "throttled"],
    ["create", 429, "slow down", "throttled"],
    ["create", 400, envelope(400, "FAILED_PRECONDITION", "Billing is disabled."), "denied"],
    ["create", 400, envelope(400, "FAILED_PRECONDITION", "Service agents are being provisioned. Try again in a few minutes."), "throttled"],
    ["create", 400, envelope(400, "INVALID_ARGUMENT", "gs://b/in.jsonl does not exist"), "missing"],
    ["create", 404, envelope(404, "NOT_FOUND", "Not found: bq://p.d.t"), "missing"],
    ["create", 413, "", "refused"],
    ["create", 409, envelope(409, "ALREADY_EXISTS"), "ambiguous"],
    ["create", 500, envelope(500, "INTERNAL"), "ambiguous"],
    ["create", 503, envelope(503, "UNAVAILABLE"), "ambiguous"],
    ["create", 200, "{}", "ambiguous"],
    ["create", 404, "<html>", "ambiguous"],
    ["create", 308, "", "unavailable"],
    ["ask", 400, envelope(400, "INVALID_ARGUMENT"), "refused"],
    ["ask", 404, envelope(404, "NOT_FOUND"), "refused"],
    ["ask", 403, envelope(403, "PERMISSION_DENIED"), "denied"],
    ["ask", 403, envelope(403, "PERMISSION_DENIED", "No access to gs://b/picture.png"), "refused"],
    ["ask", 400, envelope(400, "FAILED_PRECONDITION", "The location is not allowed by the organization policy."), "denied"],
    ["ask", 400, envelope(400, "FAILED_PRECONDITION", "The picture is too large."), "refused"],
    ["ask", 429, envelope(429, "RESOURCE_EXHAUSTED"), "throttled"],
    ["ask", 503, envelope(503, "UNAVAILABLE"), "throttled"],
    ["ask", 500, envelope(500, "INTERNAL"), "ambiguous"],
    ["ask", 499, envelope(499, "CANCELLED"), "ambiguous"],
    ["get", 404, envelope(404, "NOT_FOUND"), "missing"],
    ["get", 404, "<html>", "unavailable"],
    ["get", 403, envelope(403, "PERMISSION_DENIED"), "denied"],
    ["get", 500, "", "unavailable"],
    ["list", 400, envelope(400, "INVALID_ARGUMENT"), "refused"],
    ["cancel", 400, envelope(400, "FAILED_PRECONDITION"), "refused"],
    ["cancel", 404, envelope(404, "NOT_FOUND"), "missing"],
    ["delete", 404, envelope(404, "NOT_FOUND"), "missing"],
    ["delete", 503, envelope(503, "UNAVAILABLE"), "unavailable"],
  ])("%s: HTTP %i %s is %s", (call, status, body, failure) => {
    expect(failureOf(call, status, body)).toBe(failure);
  });

  it("says what to do", () => {
    const disabled = envelope(403, "PERMISSION_DENIED", "m", [{ reason: "SERVICE_DISABLED" }]);
    expect(errorFromAnswer("create", { status: 403, body: disabled }).message).toContain("Enable the API aiplatform.googleapis.com");
    expect(errorFromAnswer("create", { status: 403, body: envelope(403, "PERMISSION_DENIED") }).message).toContain("roles/aiplatform.user");
    expect(errorFromAnswer("create", { status: 404, body: envelope(404, "NOT_FOUND", "no such model") }).message).toMatch(
      /^Could not create a batch job: Vertex AI answered HTTP 404 NOT_FOUND: no such model Check the name of the model/,
    );
  });

  it("takes the delay of a quota from its details or its header", () => {
    const body = envelope(429, "RESOURCE_EXHAUSTED", "m", [{ retryDelay: "2.5s" }]);
    expect(errorFromAnswer("create", { status: 429, body }).retryAfterMs).toBe(2_500);
    expect(errorFromAnswer("create", { status: 429, body: "", retryAfter: "7" }).retryAfterMs).toBe(7_000);
  });

  it("is ambiguous about a connection that broke, unless nothing was sent", () => {
    const reset = new TypeError("fetch failed", { cause: Object.assign(new Error("x"), { code: "ECONNRESET" }) });
    const refused = new TypeError("fetch failed", { cause: Object.assign(new Error("x"), { code: "ECONNREFUSED" }) });
    expect(errorFromThrown("create", reset).failure).toBe("ambiguous");
    expect(errorFromThrown("create", reset, false).failure).toBe("unavailable");
    expect(errorFromThrown("create", refused).failure).toBe("unavailable");
    expect(errorFromThrown("get", reset).failure).toBe("unavailable");
  });
});

describe("failures of Cloud Storage and BigQuery", () => {
  const api = (code: number | undefined, reason?: string, message = "m") =>
    Object.assign(new Error(message), code === undefined ? {} : { code }, reason === undefined ? {} : { errors: [{ reason, message }] });

  it.each<[string, Error, string]>([
    ["401", api(401), "denied"],
    ["403", api(403, "forbidden"), "denied"],
    ["403 of a quota", api(403, "rateLimitExceeded"), "throttled"],
    ["403 of a daily quota", api(403, "quotaExceeded"), "throttled"],
    ["404", api(404, "notFound"), "missing"],
    ["429", api(429), "throttled"],
    ["400", api(400, "invalid"), "refused"],
    ["408", api(408), "unavailable"],
    ["409", api(409, "duplicate"), "unavailable"],
    ["412", api(412, "conditionNotMet"), "unavailable"],
    ["503", api(503, "backendError"), "unavailable"],
    ["a load job that was stopped", api(undefined, "stopped"), "unavailable"],
    ["a load job of rows that do not fit", api(undefined, "invalid"), "refused"],
    ["a load job without rights", api(undefined, "accessDenied"), "denied"],
    ["a load job without a dataset", api(undefined, "notFound"), "missing"],
    ["a broken connection", Object.assign(new Error("x"), { code: "ECONNRESET" }), "unavailable"],
    ["no credentials", new Error("Could not load the default credentials. Browse to …"), "denied"],
    ["an abortion", new DOMException("This operation was aborted", "AbortError"), "unavailable"],
    ["a hash that does not match", Object.assign(new Error("x"), { code: "CONTENT_DOWNLOAD_MISMATCH" }), "unavailable"],
  ])("%s", (_name, thrown, failure) => {
    const error = serviceError("BigQuery", "do it", thrown);
    expect(ProviderError.is(error) && error.failure).toBe(failure);
    expect(error.message).toMatch(/^Could not do it: /);
  });

  it("passes on what says already what it means", () => {
    const errors = [new ProviderError("missing", "m"), new GembatchError("invalid_option", "m")];
    for (const error of errors) expect(serviceError("Cloud Storage", "do it", error)).toBe(error);
  });

  it("names the roles, and quotes nothing", () => {
    expect(serviceError("Cloud Storage", "do it", api(403)).message).toContain("roles/storage.objectAdmin");
    expect(serviceError("BigQuery", "do it", api(403)).message).toContain("BigQuery Job User");
    const quoting = api(undefined, "invalid", 'Error while reading data: "my secret prompt, which is long"');
    expect(serviceError("BigQuery", "do it", quoting).message).not.toContain("secret prompt");
    expect(httpCode(api(404))).toBe(404);
    expect(httpCode(Object.assign(new Error("x"), { code: "ECONNRESET" }))).toBeUndefined();
    expect(httpCode(undefined)).toBeUndefined();
  });
});
