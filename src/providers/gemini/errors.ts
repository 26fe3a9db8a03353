/**
 * The one mapping from what a call to the Gemini Developer API ended in to what it means for a batch. Pure.
 *
 * Sources: error envelope `{"error":{code,message,status,details[]}}`; a bad key answers 400 `API_KEY_INVALID`, not 401; a
 * missing or expired file answers 403, not 404; front ends answer HTML (gemini-batch.md 1, 1.7, 1.8).
 *
 * @module
 */
import { ProviderError, type ProviderFailure } from "../../core/provider.ts";
import { bounded, scrub } from "../../core/scrub.ts";
import type { CallErrors } from "../shared/http.ts";
import { type Answer, type Envelope, hasReason, maxMessage, parseEnvelope, retryDelay, thrownError } from "../shared/http-errors.ts";

/** What was being done. `ask`: one prompt, directly. */
export type Call = "upload" | "create" | "ask" | "get" | "list" | "download" | "cancel" | "delete";

/** The calls after which something may have been made, or answered, that costs money. */
const costly: ReadonlySet<Call> = new Set<Call>(["create", "ask"]);

const doing: Record<Call, string> = {
  upload: "upload the input of a batch",
  create: "create a batch job",
  ask: "ask a prompt",
  get: "read a batch job",
  list: "list batch jobs",
  download: "download the results of a batch job",
  cancel: "cancel a batch job",
  delete: "delete a batch job or its file",
};

const billingHint = "Batch jobs need a project with billing, in a region that the Gemini API serves.";
const keyHint = "Check GEMINI_API_KEY, or the apiKey option of gemini(), and what the key is allowed to do.";

/** What an answer other than the expected one means. Also takes a 2xx whose body was not what it should be. */
export function errorFromAnswer(call: Call, answer: Answer): ProviderError {
  const envelope = parseEnvelope(answer.body);
  const [failure, hint] = judge(call, answer, envelope);
  const word = envelope?.status ? ` ${scrub(envelope.status)}` : "";
  const said = envelope ? `: ${scrub(envelope.message)}` : answer.status < 300 ? ", but its body is not what was expected." : ".";
  const row = call === "create" && failure === "refused" && envelope ? namedRow(envelope) : undefined;
  const message = `Could not ${doing[call]}: Gemini answered HTTP ${answer.status}${word}${said}${hint ? ` ${hint}` : ""}`;
  return new ProviderError(failure, bounded(message, maxMessage), {
    status: answer.status,
    retryAfterMs: failure === "throttled" ? retryDelay(answer, envelope) : undefined,
    row,
  });
}

function judge(call: Call, answer: Answer, envelope: Envelope | undefined): [ProviderFailure, hint?: string] {
  const { status } = answer;
  const unsure: ProviderFailure = costly.has(call) ? "ambiguous" : "unavailable";
  if (status >= 300 && status < 400) return ["unavailable", "The base URL redirects; set baseUrl to where it leads."];
  // A direct call that is shed, or meets an overloaded model, answers 503 (gemini-batch.md 1.11).
  if (status === 429 || (status === 503 && call === "ask")) return ["throttled"];
  if (status === 401) return ["denied", keyHint];
  if (status === 413 && (call === "create" || call === "upload")) return ["refused", "It is too large; lower limits.maxBytes."];
  if (status === 413 && call === "ask") return ["refused", "It is too large."];
  if (!envelope) {
    // With alt=media Google answers errors as plain text; a page of HTML comes from something in between.
    if (call === "download" && (status === 404 || status === 403) && !/^\s*</.test(answer.body)) return ["missing"];
    return [unsure];
  }
  if (status < 400 || status >= 500 || status === 408 || status === 409 || status === 499) return [unsure];
  if (hasReason(envelope, "API_KEY_INVALID") || /\bAPI key (?:not valid|not found|expired|invalid)/i.test(envelope.message)) {
    return ["denied", keyHint];
  }
  switch (call) {
    case "create":
      return judgeCreate(status, envelope);
    case "ask":
      return judgeAsk(status, envelope);
    case "upload":
      if (status === 403) return ["denied", keyHint];
      if (envelope.status === "FAILED_PRECONDITION") return ["denied", billingHint];
      return status === 404 ? ["unavailable"] : ["refused"];
    case "download":
      return status === 404 || status === 403 ? ["missing"] : ["refused"];
    default:
      if (status === 403) return ["denied", keyHint];
      return status === 404 ? ["missing"] : ["refused"];
  }
}

function judgeCreate(status: number, envelope: Envelope): [ProviderFailure, hint?: string] {
  const aboutFile = /\bfiles?\b/i.test(envelope.message);
  if (aboutFile && (status === 403 || status === 404)) return ["missing", "The uploaded input has expired; it must be staged again."];
  if (status === 403) return ["denied", keyHint];
  if (status === 404) return ["refused", "Check the name of the model, and that it can run in batch jobs."];
  if (aboutFile && /not in an? (?:\S+ )?active state|still (?:being )?process/i.test(envelope.message)) return ["throttled"];
  if (/\bfiles?[ /][^.]{0,60}\b(?:expired|not found|not exist)\b/i.test(envelope.message) && namedRow(envelope) === undefined) {
    return ["missing", "The uploaded input has expired; it must be staged again."];
  }
  if (status === 400 && envelope.status === "FAILED_PRECONDITION") return ["denied", billingHint];
  return ["refused"];
}

function judgeAsk(status: number, envelope: Envelope): [ProviderFailure, hint?: string] {
  // A file that the prompt itself refers to.
  if (status === 403) return /\bfiles?\b/i.test(envelope.message) ? ["refused"] : ["denied", keyHint];
  if (status === 404) return ["refused", "Check the name of the model."];
  if (envelope.status === "FAILED_PRECONDITION" && /\b(?:billing|free tier|location|region)\b/i.test(envelope.message)) {
    return ["denied", "Direct calls need a project in a region that the Gemini API serves; flex needs billing."];
  }
  return ["refused"];
}

/** What it means that `fetch` (or reading its body) threw. `sent: false` if the request certainly never left. */
export function errorFromThrown(call: Call, thrown: unknown, sent = true): ProviderError {
  return thrownError({ what: doing[call], costly: costly.has(call) }, thrown, sent);
}

/** Both endings of a call, for a round trip. */
export function errorsOf(call: Call): CallErrors {
  return { answer: (answer) => errorFromAnswer(call, answer), thrown: (thrown) => errorFromThrown(call, thrown) };
}

/** The row that a refusal names: its key, or its zero-based number (`line 17` and `row 17` are counted from one). */
function namedRow(envelope: Envelope): string | number | undefined {
  const fields = envelope.details.flatMap((detail) => {
    const { fieldViolations } = (detail ?? {}) as { fieldViolations?: unknown };
    return Array.isArray(fieldViolations) ? fieldViolations.map(textsOf) : [];
  });
  for (const text of [envelope.message, ...fields]) {
    const key = /(?<!api[ _-]?)\bkey\b\\?["'`]?\s*(?:[:=]\s*\\?["'`]?|\\?["'`])([A-Za-z][\w.-]{0,127})/i.exec(text);
    if (key) return key[1]!.replace(/\.+$/, "");
    const index = /\brequests\[(\d{1,9})\]/i.exec(text) ?? /\bindex\s*[:=]?\s*(\d{1,9})\b/i.exec(text);
    if (index) return Number(index[1]);
    const line = /\b(?:line|row)\s*(?:number\s*)?[#:=]?\s*(\d{1,9})\b/i.exec(text);
    if (line) return Math.max(0, Number(line[1]) - 1);
  }
  return undefined;
}

/** The texts of a violation (`field`, `description`), whatever else is in it. */
function textsOf(violation: unknown): string {
  return typeof violation === "object" && violation !== null
    ? Object.values(violation)
        .filter((value) => typeof value === "string")
        .join(" ")
    : "";
}
