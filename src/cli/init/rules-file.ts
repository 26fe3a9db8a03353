/**
 * `firestore.rules`: a marked block that says that gembatch's documents are nobody's but the server's.
 *
 * @module
 */

const begin = "// gembatch: begin";
const end = "// gembatch: end";

/** Rules of a database that nobody but the server may use. */
export const closedRules = `rules_version = '2';

service cloud.firestore {
  match /databases/{database}/documents {
    match /{document=**} {
      allow read, write: if false;
    }
  }
}
`;

export interface MergedRules {
  text: string;
  /** `undefined`: the block of the documents was not found, so nothing was changed. */
  outcome: "already" | "added" | "updated" | undefined;
  /** Whether a rule outside of our block may open every collection. */
  opensAll: boolean;
}

/** The rules with our block, for these collections. */
export function mergeRules(before: string, collections: readonly string[]): MergedRules {
  const opensAll = opensEverything(before);
  const eol = before.includes("\r\n") ? "\r\n" : "\n";
  const marked = new RegExp(`([ \\t]*)${begin}[\\s\\S]*?${end}[^\\r\\n]*`).exec(before);
  if (marked) {
    const text = before.replace(marked[0], () => block(collections, marked[1]!, eol));
    return { text, outcome: text === before ? "already" : "updated", opensAll };
  }
  const opening = /^([ \t]*)match\s+\/databases\/\{\w+\}\/documents\s*\{[^\r\n]*\r?\n/m.exec(before);
  if (!opening) return { text: before, outcome: undefined, opensAll };
  const at = opening.index + opening[0].length;
  // As far in as what follows, or by two spaces more than the line before.
  const next = /^(?:[ \t]*\r?\n)*([ \t]+)\S/.exec(before.slice(at))?.[1];
  const indent = next !== undefined && next.length > opening[1]!.length ? next : `${opening[1]}  `;
  return { text: before.slice(0, at) + block(collections, indent, eol) + eol + before.slice(at), outcome: "added", opensAll };
}

function block(collections: readonly string[], indent: string, eol: string): string {
  const lines = [
    `${begin}. The Admin SDK is not bound by rules; nobody else needs these documents.`,
    ...collections.flatMap((name) => [`match /${name}/{document=**} {`, "  allow read, write: if false;", "}"]),
    end,
  ];
  return lines.map((line) => indent + line).join(eol);
}

const tokens = /match\s+((?:\/(?:\{\w+(?:=\*\*)?\}|[\w$().-]+))+)\s*\{|allow\b([^;]*);|\{|\}/g;

/** A wildcard over all collections whose allow is neither `if false` nor speaks of ours: rules are joined by OR, so it opens ours as well. */
function opensEverything(rules: string): boolean {
  const text = rules.replaceAll(/\/\/[^\n]*|\/\*[\s\S]*?\*\//g, "");
  /** The paths of the blocks around; empty for a block without one. */
  const open: string[] = [];
  for (const [token, path, allowed] of text.matchAll(tokens)) {
    if (token === "}") open.pop();
    else if (allowed === undefined) open.push(path ?? "");
    else if (/\/documents\/\{/.test(open.join("")) && !/:\s*if\s+false\s*$|gembatch/.test(allowed)) return true;
  }
  return false;
}
