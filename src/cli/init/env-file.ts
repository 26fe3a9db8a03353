/** The dotenv file of a functions codebase: our lines are set, all others kept as they are. */

/** The values of the file, without quotes. */
export function readEnv(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, name, value] = lineForm.exec(line) ?? [];
    if (name !== undefined) values.set(name, value!.replace(/^(["'])(.*)\1$/, "$2"));
  }
  return values;
}

const lineForm = /^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*("[^"]*"|'[^']*'|[^#]*?)\s*(?:#.*)?$/;

/** The text with these values: a line that has the name is replaced where it stands, the others are added at the end. */
export function mergeEnv(before: string, wanted: ReadonlyMap<string, string>): string {
  const eol = before.includes("\r\n") ? "\r\n" : "\n";
  const present = readEnv(before);
  const lines = before.split(/\r?\n/).map((line) => {
    const name = lineForm.exec(line)?.[1];
    const value = name === undefined ? undefined : wanted.get(name);
    return value === undefined || present.get(name!) === value ? line : `${name}=${value}`;
  });
  const missing = [...wanted].filter(([name]) => !present.has(name)).map(([name, value]) => `${name}=${value}`);
  if (missing.length === 0) return lines.join(eol);
  const body = lines.join(eol).trimEnd();
  return `${body === "" ? "" : body + eol + eol}# gembatch${eol}${missing.join(eol)}${eol}`;
}
