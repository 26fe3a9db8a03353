/** Of a longer text its beginning is enough to know it by: messages may cut what they quote. */
const knownBy = 20;
/** Shorter words are only hidden within quotation marks: they are in every sentence. */
const shortest = 3;
const maxLeaves = 10_000;

/**
 * A message of a schema library without what it quotes of the value that it is about: many say what they got ("received …"). Texts, numbers and quoted keys
 * of the value become `…`.
 */
export function withoutQuotes(message: string, value: unknown): string {
  let rest = message;
  const leaves = [...leavesOf(value)].toSorted((a, b) => b.text.length - a.text.length);
  for (const { text, isKey } of leaves) {
    for (const form of new Set([text, JSON.stringify(text).slice(1, -1)])) {
      if (form.length > knownBy) {
        const at = rest.indexOf(form.slice(0, knownBy));
        if (at >= 0) rest = `${rest.slice(0, at)}…`;
        continue;
      }
      for (const mark of ['"', "'", "`"]) rest = rest.replaceAll(`${mark}${form}${mark}`, `${mark}…${mark}`);
      if (!isKey) rest = withoutWord(rest, form);
    }
  }
  return rest;
}

interface Leaf {
  text: string;
  isKey: boolean;
}

function leavesOf(value: unknown): Set<Leaf> {
  const leaves = new Map<string, Leaf>();
  const open = [value];
  while (open.length > 0 && leaves.size < maxLeaves) {
    const item = open.pop();
    if (typeof item === "string" && item !== "") leaves.set(item, { text: item, isKey: false });
    else if (typeof item === "number") leaves.set(String(item), { text: String(item), isKey: false });
    else if (Array.isArray(item)) for (const child of item as unknown[]) open.push(child);
    else if (typeof item === "object" && item !== null) {
      for (const [key, child] of Object.entries(item)) {
        if (key !== "" && !leaves.has(key)) leaves.set(key, { text: key, isKey: true });
        open.push(child);
      }
    }
  }
  return new Set(leaves.values());
}

/** Hides a word where it stands alone: `5` in "was 5", not in "15". */
function withoutWord(text: string, word: string): string {
  if (word.length < shortest && !/^\d/.test(word)) return text;
  const pieces = text.split(word);
  let result = pieces[0] ?? "";
  for (const piece of pieces.slice(1)) {
    const standsAlone = !/[\p{L}\p{N}.]$/u.test(result) && !/^(?:[\p{L}\p{N}]|\.\d)/u.test(piece);
    result += (standsAlone ? "…" : word) + piece;
  }
  return result;
}
