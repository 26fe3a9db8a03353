/**
 * The `filter` of a list of batch prediction jobs: `display_name="x" AND labels.run=r1`.
 *
 * @module
 */
import { WireError, type JsonObject } from "./wire.ts";

type Test = (job: JsonObject) => boolean;

const comparison =
  /^\s*(NOT\s+)?(displayName|display_name|state|createTime|create_time|labels\.[\w-]+|labels\."[^"]+")\s*(!=|<=|>=|=|<|>|:)\s*("(?:[^"\\]|\\.)*"|[^\s"]+)\s*$/;

/** What a job's resource must be. Throws 400 for what cannot be read: `AND` and `OR` without parentheses. */
export function filterOf(text: string | undefined): Test {
  if (text === undefined || text.trim() === "") return () => true;
  const alternatives = splitOutside(text, "OR").map((part) => splitOutside(part, "AND").map(testOf));
  return (job) => alternatives.some((tests) => tests.every((test) => test(job)));
}

/** At a word that stands outside of quotes. */
function splitOutside(text: string, word: string): string[] {
  const parts: string[] = [""];
  for (const piece of text.split(/("(?:[^"\\]|\\.)*")/)) {
    const [first = "", ...more] = piece.startsWith('"') ? [piece] : piece.split(new RegExp(`\\b${word}\\b`));
    parts[parts.length - 1] += first;
    parts.push(...more);
  }
  return parts;
}

function testOf(text: string): Test {
  const match = comparison.exec(text);
  if (!match) throw new WireError("INVALID_ARGUMENT", `Invalid filter: ${text.trim()}`);
  const [, not, field = "", operator = "=", written = ""] = match;
  const wanted = written.startsWith('"') ? written.slice(1, -1).replaceAll(/\\(.)/g, "$1") : written;
  const test: Test = (job) => compare(valueOf(job, field), operator, wanted, /time/i.test(field));
  return not === undefined ? test : (job) => !test(job);
}

function valueOf(job: JsonObject, field: string): string | undefined {
  if (field.startsWith("labels.")) {
    const name = field.slice("labels.".length).replaceAll('"', "");
    return (job.labels as Record<string, string> | undefined)?.[name];
  }
  const name = field.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return job[name] as string | undefined;
}

function compare(value: string | undefined, operator: string, wanted: string, isTime: boolean): boolean {
  if (operator === ":") return value !== undefined && (wanted === "*" || value.includes(wanted));
  if (operator === "!=") return value !== wanted;
  if (value === undefined) return false;
  const [a, b] = isTime ? [Date.parse(value), Date.parse(wanted)] : [value, wanted];
  switch (operator) {
    case "=":
      return a === b;
    case "<":
      return a < b;
    case "<=":
      return a <= b;
    case ">":
      return a > b;
    default:
      return a >= b;
  }
}
