import type { EmulatorOptions } from "./options.ts";

/** What a value must be, in words, and whether it is that. */
type Rule = readonly [wanted: string, isRight: (value: unknown) => boolean];

const number = (least: number, most = Infinity): Rule => [
  most === Infinity ? `a number of at least ${least}` : `a number from ${least} to ${most}`,
  (value) => typeof value === "number" && value >= least && value <= most,
];
const text: Rule = ["a text", (value) => typeof value === "string" && value !== ""];
const fn: Rule = ["a function", (value) => typeof value === "function"];
const object: Rule = ["an object", isPlain];
const names: Rule = ["a list of names", (value) => Array.isArray(value) && value.every((name) => typeof name === "string")];
const oneOf = (...words: string[]): Rule => [words.map((word) => `"${word}"`).join(" or "), (value) => words.includes(value as string)];
const or = (a: Rule, b: Rule): Rule => [`${a[0]} or ${b[0]}`, (value) => a[1](value) || b[1](value)];

const rules: Record<keyof EmulatorOptions, Rule> = {
  port: ["a port from 0 to 65535", (value) => Number.isInteger(value) && number(0, 65_535)[1](value)],
  apiKey: text,
  turnaround: or(or(number(0), fn), [
    "{ min, max }",
    (value) => isPlain(value) && number(0)[1](value["min"]) && number(value["min"] as number)[1](value["max"]),
  ]),
  pendingFraction: number(0, 1),
  answer: fn,
  faults: object,
  models: or(fn, [
    "a list of names or a RegExp",
    (value) => value instanceof RegExp || (Array.isArray(value) && value.every((name) => typeof name === "string")),
  ]),
  seed: ["a text or number", (value) => typeof value === "string" || typeof value === "number"],
  clock: ["an object with now and sleep", (value) => isPlain(value) && fn[1](value["now"]) && fn[1](value["sleep"])],
  dir: text,
  latency: number(0),
  malformedRows: oneOf("refuse", "rowError"),
  uniqueKeys: ["true or false", (value) => typeof value === "boolean"],
  limits: object,
  buckets: names,
  datasets: names,
  ledger: oneOf("full", "counts"),
  upstream: object,
  webhooks: object,
  log: fn,
};

const groups: Record<string, Record<string, Rule>> = {
  limits: {
    concurrentJobs: number(1),
    enqueuedTokens: or(number(0), [
      "numbers by model",
      (value) => isPlain(value) && Object.values(value).every((tokens) => number(0)[1](tokens)),
    ]),
    fileBytes: number(1),
    inlineBytes: number(1),
  },
  upstream: {
    baseUrl: ["a URL", (value) => typeof value === "string" && URL.canParse(value)],
    model: text,
    apiKey: text,
    concurrency: number(1),
  },
  webhooks: { uri: text, secret: text, jobSignature: oneOf("jwt", "ed25519") },
};

/** The options as given; throws a `TypeError` that names an unknown option or a bad value. */
export function checkOptions(options: EmulatorOptions): EmulatorOptions {
  check(options, rules, "options");
  for (const [name, fields] of Object.entries(groups)) {
    const group = options[name as keyof EmulatorOptions];
    if (group !== undefined) check(group, fields, name);
  }
  return options;
}

function check(given: unknown, fields: Record<string, Rule>, where: string): void {
  if (!isPlain(given)) throw new TypeError(`The emulator's ${where} must be an object of options.`);
  for (const [name, value] of Object.entries(given)) {
    const path = where === "options" ? name : `${where}.${name}`;
    if (!Object.hasOwn(fields, name)) throw new TypeError(`The emulator has no option ${path}. Known: ${Object.keys(fields).join(", ")}.`);
    const [wanted, isRight] = fields[name] as Rule;
    // The value is not shown: it may be a key.
    if (value !== undefined && !isRight(value)) throw new TypeError(`Option ${path} of the emulator must be ${wanted}.`);
  }
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
