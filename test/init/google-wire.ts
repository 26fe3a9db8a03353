/** Requests, routes and refusals of the emulated Google APIs. */
import type { GoogleState } from "./google-state.ts";

export interface GoogleRequest {
  /** What the brackets of the path's pattern caught, decoded. */
  match: string[];
  query: URLSearchParams;
  header: (name: string) => string | undefined;
  text: string;
  body: Record<string, any>;
}

/** Known fields: `true` for any value, an object for what is inside. `*` stands for items of a list. */
export interface Fields {
  [name: string]: true | Fields;
}

export interface Route {
  method: string;
  host: string;
  path: RegExp;
  query?: readonly string[];
  body?: Fields | "text";
  changes?: boolean;
  handle: (state: GoogleState, request: GoogleRequest) => unknown;
}

export function requireFields(value: unknown, fields: true | Fields, where: string): void {
  if (fields === true || value === null) return;
  if (Array.isArray(value)) {
    if (!fields["*"]) throw new Refusal(400, "INVALID_ARGUMENT", `${where} is no list.`, `${where} is a list`);
    for (const item of value) requireFields(item, fields["*"], `${where}[]`);
    return;
  }
  if (typeof value !== "object") throw new Refusal(400, "INVALID_ARGUMENT", `${where} is no object.`, `${where} is ${typeof value}`);
  for (const [name, inner] of Object.entries(value)) {
    const known = fields[name];
    if (known === undefined)
      throw new Refusal(
        400,
        "INVALID_ARGUMENT",
        `Invalid JSON payload received. Unknown name "${name}" at '${where}': Cannot find field.`,
        `${where}.${name}`,
      );
    requireFields(inner, known, `${where}.${name}`);
  }
}

export const policyFields: Fields = {
  version: true,
  etag: true,
  kind: true,
  resourceId: true,
  auditConfigs: true,
  bindings: { "*": { role: true, members: true, condition: true } },
};

/** An error as the service words it: Cloud Storage and BigQuery in an older form than all others. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  /** Set where the caller is wrong, not the circumstances. */
  readonly problem: string | undefined;

  constructor(status: number, reason: string, message: string, problem?: string) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.problem = problem;
  }

  body(host: string): object {
    const { status: code, message, reason } = this;
    if (/^(storage|bigquery)\./.test(host)) {
      const oldReason = reason === "SERVICE_DISABLED" ? "accessNotConfigured" : reason;
      return { error: { code, message, errors: [{ message, domain: "global", reason: oldReason }] } };
    }
    const details =
      reason === "SERVICE_DISABLED"
        ? [
            { "@type": "type.googleapis.com/google.rpc.Help", links: [] },
            {
              "@type": "type.googleapis.com/google.rpc.ErrorInfo",
              reason,
              domain: "googleapis.com",
              metadata: { service: host, consumer: "projects/1234567890" },
            },
          ]
        : [];
    return { error: { code, message, status: reason === "SERVICE_DISABLED" ? "PERMISSION_DENIED" : reason, details } };
  }
}

export const notFound = (what: string): Refusal => new Refusal(404, "NOT_FOUND", `${what} was not found.`);
