import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { checkCallOptions } from "../../src/chain/call-options.ts";
import { startEmulator } from "../../src/emulator.ts";
import { gemini } from "../../src/gemini.ts";
import { Gembatch, GembatchError } from "../../src/index.ts";
import { cloudStoragePayloads, filePayloads, s3Payloads } from "../../src/payloads.ts";
import { SqliteStore } from "../../src/sqlite.ts";
import { vertex } from "../../src/vertex.ts";
import * as table from "./option-table.ts";
import { kindOf, type Kind, type OptionTable } from "./option-table.ts";

const settings = { seed: 20_260_904, numRuns: 25 };

// Where options are given --------------------------------------------------------------------------------------------------------

const provider = gemini({ apiKey: "k", baseUrl: "http://127.0.0.1:1" });
const basis = { store: "sqlite::memory:", provider, logger: false as const, autoWorker: false };
const gembatch = new Gembatch(basis);
const chain = gembatch.chain("chain", async (_context, input: number) => input);
const handler = gembatch.handler("handler", () => undefined);
/** Without any run. */
const idle = new Gembatch(basis);
afterAll(async () => {
  await gembatch.close();
  await idle.close();
});
let names = 0;
const newName = (): string => `name-${(names += 1)}`;
const contents = [{ role: "user", parts: [{ text: "hi" }] }];

/** A place that takes options; `give` throws or rejects if it refuses them. */
interface Place {
  options: OptionTable;
  give: (options: never) => unknown;
  /** Refuses with a TypeError: it shares no code with the rest. */
  standsAlone?: true;
}

const places: Record<string, Place> = {
  "new Gembatch()": {
    options: table.gembatchOptions,
    give: (options: object) => new Gembatch(mixed(basis, options)),
  },
  "vertex()": {
    options: table.vertexOptions,
    give: (options: object) => vertex(mixed({ bucket: "bucket" }, options)),
  },
  "gembatch.chain()": {
    options: table.chainOptions,
    give: (options) => gembatch.chain(newName(), async () => 1, options),
  },
  "gembatch.handler()": {
    options: table.handlerOptions,
    give: (options) => gembatch.handler(newName(), () => 1, options),
  },
  "the options of a call": {
    options: table.callOptions,
    give: (options) => checkCallOptions(options),
  },
  "gembatch.submit()": {
    options: table.submitOptions,
    give: async (options) => gembatch.submit({ contents }, "gemini-2.5-flash", handler, newName(), options),
  },
  "chain.start()": {
    options: table.startOptions,
    give: async (options) => chain.start(1, options),
  },
  "chain.startMany()": {
    options: table.startManyOptions,
    give: async (options) => chain.startMany([1], options),
  },
  "chain.map()": {
    options: table.mapOptions,
    give: async (options) => {
      for await (const item of chain.map([], options)) expect(item).toBeUndefined();
    },
  },
  "run.result()": {
    options: table.waitOptions,
    give: async (options) => idle.run("nobody").result(options),
  },
  "gembatch.onIdle()": {
    options: table.waitOptions,
    give: async (options) => idle.onIdle(options),
  },
  "runs.cancel()": {
    options: { tree: table.flag },
    give: async (options) => gembatch.runs.cancel("nobody", options),
  },
  "runs.retry()": {
    options: { afresh: table.flag },
    give: async (options) => gembatch.runs.retry("nobody", options),
  },
  "gembatch.costs()": {
    options: table.costOptions,
    give: async (options) => gembatch.costs(options),
  },
  "requests.list()": {
    options: table.requestListOptions,
    give: async (options) => gembatch.requests.list(options),
  },
  "batches.list()": {
    options: table.batchListOptions,
    give: async (options) => gembatch.batches.list(options),
  },
  "runs.list()": {
    options: table.runListOptions,
    give: async (options) => gembatch.runs.list(options),
  },
  "gemini()": { options: table.geminiOptions, give: (options) => gemini(options) },
  "startEmulator()": {
    options: table.emulatorOptions,
    give: async (options) => (await startEmulator(options)).close(),
    standsAlone: true,
  },
  "filePayloads()": { options: table.filePayloadsOptions, give: (options) => filePayloads(mixed({ path: "x" }, options)) },
  "cloudStoragePayloads()": {
    options: table.cloudStoragePayloadsOptions,
    give: (options) => cloudStoragePayloads(mixed({ bucket: "b" }, options)),
  },
  "s3Payloads()": { options: table.s3PayloadsOptions, give: (options) => s3Payloads(mixed({ bucket: "b" }, options)) },
  "new SqliteStore()": {
    options: table.sqliteOptions,
    give: (options) => new SqliteStore(options),
  },
};

/** Anything but an object of options stays as it is. */
function mixed(defaults: object, options: object): never {
  return (kindOf(options) === "object" ? { ...defaults, ...options } : options) as never;
}

// Values ---------------------------------------------------------------------------------------------------------------------------

const garbage: Record<Kind, fc.Arbitrary<unknown>> = {
  null: fc.constant(null),
  boolean: fc.boolean(),
  number: fc.oneof(fc.double(), fc.integer(), fc.constantFrom(NaN, Infinity, -Infinity, -0, -1, 1.5, 2 ** 53, 5e-324)),
  bigint: fc.bigInt(),
  string: fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("", " ", "5", "5 parsecs", "1e3s", "-5s", "NaN", "\ud800", "__proto__", "x".repeat(1_000)),
  ),
  symbol: fc.string().map((name) => Symbol(name)),
  function: fc.constantFrom<unknown[]>(
    () => {},
    Date,
    () => "text",
  ),
  array: fc.array(fc.anything(), { maxLength: 3 }),
  object: fc.oneof(
    fc.dictionary(fc.string(), fc.anything(), { maxKeys: 2 }),
    fc.constantFrom<unknown[]>(
      {},
      new Date(NaN),
      new Map(),
      /x/,
      Object.create(null),
      { toString: null, valueOf: 1 },
      { toString: () => Promise.reject(new Error()) },
    ),
  ),
};
const kinds = Object.keys(garbage) as Kind[];

/** An object with this value at the path. */
function at(path: string, value: unknown): object {
  const result = Object.create(Object.prototype) as Record<string, unknown>;
  const dot = path.indexOf(".");
  if (dot === -1) Object.defineProperty(result, path, { value, enumerable: true, configurable: true, writable: true });
  else result[path.slice(0, dot)] = at(path.slice(dot + 1), value);
  return result;
}

/** Options that make no sense alone, and what they are given with. */
const company: Readonly<Record<string, object>> = {
  "budget.usd": { budget: { per: "day" } },
  "budget.per": { budget: { usd: 5 } },
  "payloads.threshold": { payloads: { store: table.payloadStore } },
  "cache.ttl": { cache: { scope: "store" } },
  repair: { schema: table.schema },
  "upstream.model": { upstream: { baseUrl: "http://127.0.0.1:1" } },
  "upstream.apiKey": { upstream: { baseUrl: "http://127.0.0.1:1" } },
  "upstream.concurrency": { upstream: { baseUrl: "http://127.0.0.1:1" } },
  onChange: { key: "k" },
  "webhooks.uri": { webhooks: { secret: "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=" } },
};

function inCompany(options: OptionTable, path: string, value: unknown): object {
  return merge(Object.hasOwn(options, path) ? (company[path] ?? {}) : {}, at(path, value));
}

const unknownNames = fc.oneof(
  fc.stringMatching(/^[a-zA-Z_]{1,12}$/),
  fc.constantFrom("", " ", "0", "__proto__", "toString", "constructor", "maxRequest", "Tier"),
);

function merge(a: object, b: object): object {
  const result: Record<string, unknown> = { ...a };
  for (const [key, value] of Object.entries(b)) {
    const present = result[key];
    result[key] =
      kindOf(present) === "object" && kindOf(value) === "object" ? merge(present as object, value as object) : (value as unknown);
  }
  return result;
}

const groupsOf = (options: OptionTable): string[] => [
  ...new Set(
    Object.keys(options).flatMap((path) => {
      const parts = path.split(".").slice(0, -1);
      return parts.map((_, index) => parts.slice(0, index + 1).join("."));
    }),
  ),
];

/** The refusal, or undefined. Anything else that is thrown fails the test. */
async function refusalOf(place: Place, options: unknown): Promise<Error | undefined> {
  try {
    await place.give(options as never);
    return undefined;
  } catch (thrown) {
    if (place.standsAlone && thrown instanceof TypeError && /\bmust be\b|\bno option\b|\bUnknown\b/.test(thrown.message)) return thrown;
    if (!GembatchError.is(thrown)) throw thrown;
    // The options were fine: the same id was tried before for something else, and nobody started a run of that name.
    if (thrown.code === "run_conflict" || thrown.code === "run_not_found") return undefined;
    expect(["invalid_option", "invalid_argument", "not_serializable"]).toContain(thrown.code);
    expect(thrown.message.length).toBeLessThan(700);
    return thrown;
  }
}

/** Kinds that may be taken: those of the option, an object for a group, and `null` for nothing. */
function kindsFor(options: OptionTable, slot: string): readonly Kind[] {
  return ["null", ...(options[slot]?.kinds ?? (["object", "array"] as const))];
}

/** What was thrown in place of a refusal. */
function nameOf(thrown: unknown): string {
  return thrown instanceof Error && thrown.name !== "AssertionError" ? ` (${thrown.name})` : "";
}

function expectNamed(refusal: Error, path: string): void {
  expect(refusal.message).toContain(path.slice(path.lastIndexOf(".") + 1));
}

describe("what no store can keep is refused", () => {
  const deep = Array.from({ length: 20_000 }).reduce<unknown>((inner) => [inner], 1) as number;

  it("a value that is nested too deeply", async () => {
    await expect(chain.start(deep)).rejects.toMatchObject({ code: "not_serializable" });
    const request = { contents: [{ parts: [{ text: "hi", extra: deep }] }] } as { contents: object[] };
    await expect(gembatch.submit(request, "gemini-2.5-flash", handler, newName())).rejects.toMatchObject({ code: "not_serializable" });
  });

  it("an instant beyond all calendars; the store goes on", async () => {
    for (const deadline of [9.1e15, 1e300, "99999999999d" as const]) {
      await expect(chain.start(1, { id: newName(), deadline })).rejects.toMatchObject({ code: "invalid_option" });
    }
    await expect(gembatch.runs.list()).resolves.toBeDefined();
  });

  it("an id that is no text of whole characters", async () => {
    await expect(chain.start(1, { id: "\ud800" })).rejects.toMatchObject({ code: "invalid_argument" });
  });
});

// The properties -------------------------------------------------------------------------------------------------------------------

describe.each(Object.entries(places))("%s", (_name, place) => {
  const { options } = place;
  const paths = Object.keys(options);
  const groups = groupsOf(options);

  it("takes what is right", async () => {
    for (const [path, { good }] of Object.entries(options)) {
      for (const value of good) {
        expect({ path, refused: await refusalOf(place, inCompany(options, path, value)) }).toEqual({ path, refused: undefined });
      }
    }
  });

  it("takes any value of an option, a group or all options, or refuses it by name; one of the wrong kind is refused", async () => {
    const found: string[] = [];
    for (const slot of [...paths, ...groups, ""]) {
      const taken = kindsFor(options, slot);
      for (const kind of kinds) {
        const property = fc.asyncProperty(garbage[kind], async (value) => {
          const refusal = await refusalOf(place, slot === "" ? value : inCompany(options, slot, value));
          if (refusal) expectNamed(refusal, slot);
          else expect(taken).toContain(kind);
        });
        if (taken.includes(kind) && options[slot]?.careful) continue;
        const numRuns = taken.includes(kind) && !place.standsAlone ? settings.numRuns : 3;
        const { failed, errorInstance } = await fc.check(property, { ...settings, numRuns, endOnFailure: true });
        if (failed) found.push(`${slot === "" ? "all" : slot}: ${kind}${nameOf(errorInstance)}`);
      }
    }
    expect(found).toEqual([]);
  });

  it("refuses names that it does not know, in every group", async () => {
    for (const group of ["", ...groups.map((path) => `${path}.`)]) {
      const taken = new Set(paths.filter((path) => path.startsWith(group)).map((path) => path.slice(group.length).split(".")[0]));
      const names = unknownNames.filter((name) => !taken.has(name));
      const property = fc.asyncProperty(names, fc.anything(), async (name, value) => {
        const own = Object.defineProperty({}, name, { value, enumerable: true });
        const refusal = await refusalOf(place, group === "" ? own : at(group.slice(0, -1), own));
        expect({ name, refused: refusal?.message.includes(name) }).toEqual({ name, refused: true });
      });
      await fc.assert(property, settings);
    }
  });

  it("fails in no other way with several of them at once", async () => {
    const one = fc.tuple(fc.constantFrom(...paths.filter((path) => !options[path]?.careful)), fc.oneof(...Object.values(garbage)));
    const property = fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 4 }), async (chosen) => {
      await refusalOf(
        place,
        chosen.reduce((given, [path, value]) => merge(given, at(path, value)), {}),
      );
    });
    await fc.assert(property, settings);
  });
});
