/**
 * The one mapping from what a call to the Vertex AI API ended in to what it means for a batch. Pure.
 *
 * Sources: error envelope `{"error":{code,message,status,details[]}}`; a model that does not exist answers 404 at create; cancelling a job that has ended answers 400
 * FAILED_PRECONDITION; a bad bucket or missing rights of the service agent fail the job later (gemini-batch.md 3.1).
 *
 * @module
 */
import { ProviderError, type ProviderFailure } from "../../core/provider.ts";
import { bounded, scrub } from "../../core/scrub.ts";
import type { CallErrors } from "../shared/http.ts";
import { type Answer, type Envelope, hasReason, maxMessage, parseEnvelope, retryDelay, thrownError } from "../shared/http-errors.ts";

/** What was being done. `ask`: one prompt, directly. */
export type Call = "create" | "ask" | "get" | "list" | "cancel" | "delete";

/** The calls after which something may have been made, or answered, that costs money. */
const costly: ReadonlySet<Call> = new Set<Call>(["create", "ask"]);

const doing: Record<Call, string> = {
  create: "create a batch job",
  ask: "ask a prompt",
  get: "read a batch job",
  list: "list batch jobs",
  cancel: "cancel a batch job",
  delete: "delete a batch job",
};

const roleHint = "Check the project, and that these credentials have the role Vertex AI User (roles/aiplatform.user) in it.";
const apiHint = "Enable the API aiplatform.googleapis.com in the project.";
const preconditionHint = "Check that the project has billing, and that its policies allow Vertex AI in this location.";

/** What an answer other than the expected one means. Also takes a 2xx whose body was not what it should be. */
export function errorFromAnswer(call: Call, answer: Answer): ProviderError {
  const envelope = parseEnvelope(answer.body);
  const [failure, hint] = judge(call, answer, envelope);
  const word = envelope?.status ? ` ${scrub(envelope.status)}` : "";
  const said = envelope ? `: ${scrub(envelope.message)}` : answer.status < 300 ? ", but its body is not what was expected." : ".";
  const message = `Could not ${doing[call]}: Vertex AI answered HTTP ${answer.status}${word}${said}${hint ? ` ${hint}` : ""}`;
  return new ProviderError(failure, bounded(message, maxMessage), {
    status: answer.status,
    retryAfterMs: failure === "throttled" ? retryDelay(answer, envelope) : undefined,
  });
}

function judge(call: Call, { status }: Answer, envelope: Envelope | undefined): [ProviderFailure, hint?: string] {
  const unsure: ProviderFailure = costly.has(call) ? "ambiguous" : "unavailable";
  if (status >= 300 && status < 400) return ["unavailable", "The base URL redirects; set baseUrl to where it leads."];
  // A direct call that is shed, or meets an overloaded model, answers 503 (gemini-batch.md 1.11).
  if (status === 429 || (status === 503 && call === "ask")) return ["throttled"];
  if (status === 401) return ["denied", roleHint];
  if (status === 413 && costly.has(call)) return ["refused", "It is too large."];
  if (!envelope) return [unsure];
  if (status < 400 || status >= 500 || status === 408 || status === 409 || status === 499) return [unsure];
  if (status === 403) return judgeForbidden(call, envelope);
  switch (call) {
    case "create":
      return judgeCreate(status, envelope);
    case "ask":
      if (status === 404) return ["refused", "Check the name of the model, and that this location serves it."];
      return envelope.status === "FAILED_PRECONDITION" && aboutProject(envelope) ? ["denied", preconditionHint] : ["refused"];
    default:
      return status === 404 ? ["missing"] : ["refused"];
  }
}

function judgeForbidden(call: Call, envelope: Envelope): [ProviderFailure, hint?: string] {
  if (hasReason(envelope, "SERVICE_DISABLED") || /has not been used in project|is disabled/i.test(envelope.message))
    return ["denied", apiHint];
  // An object that the prompt itself refers to.
  if (call === "ask" && /\bgs:\/\/|\bobjects?\b|\bfiles?\b/i.test(envelope.message)) return ["refused"];
  return ["denied", roleHint];
}

function judgeCreate(status: number, envelope: Envelope): [ProviderFailure, hint?: string] {
  const { message } = envelope;
  if (
    /\b(?:gs|bq):\/\/\S+.{0,40}\b(?:not found|not exist|no such)|\b(?:not found|not exist|no such)\b.{0,40}\b(?:gs|bq):\/\//i.test(message)
  ) {
    return ["missing", "The staged input is gone; it must be staged again."];
  }
  if (status === 404) return ["refused", "Check the name of the model, that this location serves it, and that it can run in batch jobs."];
  if (envelope.status === "FAILED_PRECONDITION") {
    // The first job of a project finds its service agent not made yet: "Service agents are being provisioned …"
    return /provision|try again/i.test(message) ? ["throttled"] : ["denied", preconditionHint];
  }
  return ["refused"];
}

function aboutProject({ message }: Envelope): boolean {
  return /\b(?:billing|organi[sz]ation|polic(?:y|ies)|location|region|terms)\b/i.test(message);
}

/** What it means that `fetch` (or reading its body) threw. `sent: false` if the request certainly never left. */
export function errorFromThrown(call: Call, thrown: unknown, sent = true): ProviderError {
  return thrownError({ what: doing[call], costly: costly.has(call) }, thrown, sent);
}

/** Both endings of a call, for a round trip. */
export function errorsOf(call: Call): CallErrors {
  return { answer: (answer) => errorFromAnswer(call, answer), thrown: (thrown) => errorFromThrown(call, thrown) };
}
