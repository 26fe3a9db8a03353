import type { Candidate, Content, GenerateContentResponse, Part } from "@google/genai";
import { GembatchError } from "../core/errors.ts";
import { withoutQuotes } from "./quotes.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";

/** One thing that is wrong with a reply. `path` is written `items[0].price`; empty for the whole reply. */
export interface ReplyIssue {
  path: string;
  message: string;
}

interface FoundIssue extends ReplyIssue {
  /** The message without what the model wrote: errors reach logs. */
  safe: string;
}

/** A reply that does not fit its schema. */
export interface InvalidReply {
  /** As the model wrote it; empty if it wrote none. */
  text: string;
  /** At most `maxIssues`, bounded in length. */
  issues: readonly FoundIssue[];
  /** How many there are in all. */
  issueCount: number;
  /** The model's turn to go on from, parts unchanged; absent if there is none, or none that another prompt may follow. */
  turn?: Content;
  /** It ended at the output limit. */
  isCut: boolean;
}

const maxIssues = 20;
const maxPathLength = 100;
const maxMessageLength = 300;

/** Ends that the same prompt would come to again. */
const finalReasons = new Set(["SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "LANGUAGE"]);

/** The validated output of a response, or what is wrong with it. */
export async function readReply<Output>(
  response: GenerateContentResponse,
  schema: StandardSchemaV1<unknown, Output>,
): Promise<{ output: Output } | InvalidReply> {
  const candidate = response.candidates?.[0];
  const text = textOf(candidate);
  const turn = turnToShow(candidate);
  const invalid = (issues: readonly StandardSchemaV1.Issue[], value?: unknown): InvalidReply => ({
    text,
    issues: issues.slice(0, maxIssues).map((issue) => toIssue(issue, value)),
    issueCount: issues.length,
    isCut: reasonOf(candidate) === "MAX_TOKENS",
    ...(turn ? { turn } : {}),
  });
  if (text.trim() === "") return invalid([{ message: whyNoText(response) }]);
  const parsed = parseJson(text);
  // Not the parser's own words: they quote the reply, and another version of Node says them differently.
  if (!parsed) return invalid([{ message: "The reply is not valid JSON." }]);
  const result = await schema["~standard"].validate(parsed.value);
  return result.issues ? invalid(result.issues, parsed.value) : { output: result.value };
}

/** The user's turn that asks for the reply again. */
export function complaintAbout(reply: InvalidReply): Content {
  const lines = reply.isCut
    ? [
        "Your reply was cut off at the output limit before it was complete.",
        "Reply again, more briefly, with the complete JSON and nothing else.",
      ]
    : [
        "Your reply does not fit the required schema:",
        ...listed(reply.issues, reply.issueCount),
        "Reply again with the complete, corrected JSON and nothing else.",
      ];
  return { role: "user", parts: [{ text: lines.join("\n") }] };
}

/** The failure after the last try. Its message lists the issues without quoting the reply; the details have both. */
export function outputInvalid(reply: InvalidReply, tries: number): GembatchError {
  const safe = reply.issues.map((issue) => ({ path: issue.path, message: issue.safe }));
  const issues: ReplyIssue[] = reply.issues.map(({ path, message }) => ({ path, message }));
  const cut = reply.isCut ? " It was cut off at the output limit." : "";
  return new GembatchError(
    "output_invalid",
    `The reply does not fit its schema, in ${tries === 1 ? "one try" : `${tries} tries`}.${cut}\n${listed(safe, reply.issueCount).join("\n")}\n`,
    {
      hint: "See details.text and details.issues. Mend the prompt or the schema; retrying the run asks nothing again, retrying it afresh does.",
      details: { text: reply.text, issues },
    },
  );
}

function listed(issues: readonly ReplyIssue[], count: number): string[] {
  const lines = issues.map(({ path, message }) => `- ${path === "" || message.startsWith(path) ? "" : `${path}: `}${message}`);
  const more = count - issues.length;
  return more > 0 ? [...lines, `- and ${more} more`] : lines;
}

/** What the model wrote besides its thoughts. The SDK's own getter also prints a warning if there is anything else. */
function textOf(candidate: Candidate | undefined): string {
  const parts = candidate?.content?.parts ?? [];
  return parts.map(({ text, thought }) => (thought === true ? "" : (text ?? ""))).join("");
}

function turnToShow(candidate: Candidate | undefined): Content | undefined {
  const content = candidate?.content;
  const parts = content?.parts ?? [];
  // A function call must be followed by its response, and only the chain could give one.
  if (parts.some(({ functionCall }) => functionCall !== undefined)) return undefined;
  if (finalReasons.has(reasonOf(candidate)) || !parts.some(hasContent)) return undefined;
  return { role: "model", ...content };
}

function hasContent(part: Part): boolean {
  return Object.entries(part).some(([key, value]) => key !== "thought" && value !== "");
}

function reasonOf(candidate: Candidate | undefined): string {
  return candidate?.finishReason ?? "";
}

function whyNoText({ promptFeedback, candidates }: GenerateContentResponse): string {
  if (promptFeedback?.blockReason) return `The prompt was blocked (${promptFeedback.blockReason}).`;
  const [candidate] = candidates ?? [];
  if (candidate?.content?.parts?.some(({ functionCall }) => functionCall !== undefined))
    return "The reply calls a function and has no text.";
  const reason = reasonOf(candidate);
  return reason === "" || reason === "STOP" ? "The reply has no text." : `The reply has no text (finish reason ${reason}).`;
}

/** JSON, plain or in a fence of Markdown. */
function parseJson(text: string): { value: unknown } | undefined {
  const fenced = /```(?:json)?\s([\s\S]*)```/i.exec(text)?.[1];
  for (const candidate of [text, fenced]) {
    if (candidate === undefined) continue;
    try {
      return { value: JSON.parse(candidate) as unknown };
    } catch {
      // The next form, or none.
    }
  }
  return undefined;
}

function toIssue({ path = [], message }: StandardSchemaV1.Issue, value: unknown): FoundIssue {
  return {
    path: bounded(pathText(path), maxPathLength),
    message: bounded(message, maxMessageLength),
    safe: bounded(withoutQuotes(message, value), maxMessageLength),
  };
}

function pathText(path: NonNullable<StandardSchemaV1.Issue["path"]>): string {
  let text = "";
  for (const segment of path) {
    const key = typeof segment === "object" ? segment.key : segment;
    if (typeof key === "number") text += `[${key}]`;
    else if (/^[\p{L}_$][\p{L}\p{N}_$-]*$/u.test(String(key))) text += `${text === "" ? "" : "."}${String(key)}`;
    else text += `[${JSON.stringify(String(key))}]`;
  }
  return text;
}

function bounded(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
