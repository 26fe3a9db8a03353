/**
 * How Cloud Storage and BigQuery write errors down.
 *
 * @module
 */
import { WireError, type JsonObject } from "./wire.ts";

/** `{"error":{code,message,errors:[{message,domain,reason}]}}`. */
export class RestError extends WireError {
  override readonly http: number;
  readonly reason: string;
  readonly extra: JsonObject;

  constructor(http: number, reason: string, message: string, extra: JsonObject = {}) {
    super(http === 404 ? "NOT_FOUND" : http === 409 ? "ALREADY_EXISTS" : "INVALID_ARGUMENT", message);
    this.name = "RestError";
    this.http = http;
    this.reason = reason;
    this.extra = extra;
  }

  override body(): JsonObject {
    const { http: code, message, reason, extra } = this;
    return { error: { code, message, errors: [{ message, domain: "global", reason, ...extra }] } };
  }
}
