import { parseDuration, type Duration } from "../core/duration.ts";
import { describe, GembatchError } from "../core/errors.ts";
import { digest } from "../core/json.ts";
import { checkType, parseCount, refuseUnknown } from "../core/options.ts";
import type { RunKind, ChainVersions } from "../core/store.ts";
import type { TierChoice } from "../core/tiers.ts";
import { checkProviderName, checkTier } from "./call-options.ts";
import type { TypedOptions } from "./context.ts";
import type { Providers } from "./providers.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import { parseTypedOutput, responseSchemaOf, type TypedOutput } from "./typed-output.ts";

/** Options of a chain or handler. */
export interface DefinitionOptions {
  /**
   * Which code recorded a run's history. Without it every run goes on with the newest code. With it, this code takes up runs of this version
   * and of those in `accepts`; runs of other versions wait for a worker that has them.
   */
  version?: string;
  accepts?: readonly string[];
  /** How often a turn that throws is tried in all. Default 1: the run fails and can be retried by hand. */
  maxAttempts?: number;
  /** Whom its prompts go to: the name of a provider of this gembatch. Default: the first one. */
  provider?: string;
  /** The price class of its prompts. Default: that of the instance. */
  tier?: TierChoice;
  /** When its runs are wanted to be done, counted from their start. A target: prompts that a job would not answer in time go to a faster tier. */
  deadline?: Duration;
}

/** Options of a handler. With a schema, it is sent with every prompt that is submitted to the handler, and the handler is given valid replies only. */
export type HandlerOptions<S extends StandardSchemaV1 = StandardSchemaV1> = DefinitionOptions & Partial<TypedOptions<S>>;

/** A registered chain or handler. */
export interface Definition {
  kind: RunKind;
  name: string;
  version: string;
  accepts: readonly string[];
  maxAttempts: number;
  provider: string | undefined;
  tier: TierChoice | undefined;
  deadlineMs: number | undefined;
  /** Digest of version, source, provider and a handler's schema: tells a deploy from non-determinism. Each provider's SDK words requests in its own way. */
  code: string;
  /** What a handler's responses have to fit. */
  typed: TypedOutput | undefined;
  // The registry is the one place where the types of all chains meet; `chain()` and `handler()` restore them.
  fn: (...args: never[]) => unknown;
}

/** All chains and handlers of one gembatch, by name. A name is what survives a deploy. */
export class Registry {
  readonly #definitions = new Map<string, Definition>();
  readonly #providers: Providers;

  constructor(providers: Providers) {
    this.#providers = providers;
  }

  add(kind: RunKind, name: unknown, fn: unknown, options: HandlerOptions = {}): Definition {
    if (typeof name !== "string" || name.trim() === "") {
      throw new GembatchError("invalid_argument", `A ${kind} needs a name, got ${describe(name)}.`, {
        hint: `Write gembatch.${kind}("my-${kind}", async (…) => …): the name is what stored runs refer to.`,
      });
    }
    if (typeof fn !== "function") {
      throw new GembatchError("invalid_argument", `The ${kind} "${name}" needs a function, got ${describe(fn)}.`);
    }
    const ofHandlers = kind === "handler" ? ["schema", "repair"] : [];
    refuseUnknown(options, ["version", "accepts", "maxAttempts", "provider", "tier", "deadline", ...ofHandlers], `${kind}("${name}")`);
    const present = this.#definitions.get(name);
    if (present) {
      throw new GembatchError("duplicate_name", `The name "${name}" is already taken by a ${present.kind}.`, {
        hint: "Chains and handlers share one set of names; choose another, or check that a module is not loaded twice.",
      });
    }
    const version = checkType(options.version, "string", `${kind}("${name}").version`) ?? "";
    const accepts: unknown = options.accepts ?? [];
    if (!Array.isArray(accepts) || !accepts.every((item) => typeof item === "string")) {
      throw new GembatchError("invalid_option", `Option ${kind}("${name}").accepts must be a list of versions, got ${describe(accepts)}.`);
    }
    if (options.provider !== undefined) checkProviderName(options.provider, `${kind}("${name}").provider`);
    const provider = this.#providers.choose({ ofDefinition: options.provider });
    const typed = parseTyped(options);
    const definition: Definition = {
      kind,
      name,
      version,
      accepts,
      maxAttempts: options.maxAttempts === undefined ? 1 : parseCount(options.maxAttempts, `${kind}("${name}").maxAttempts`),
      provider: options.provider,
      tier: options.tier === undefined ? undefined : checkTier(options.tier),
      deadlineMs: options.deadline === undefined ? undefined : parseDuration(options.deadline, `${kind}("${name}").deadline`),
      code: digest(`${version}\n${Function.prototype.toString.call(fn)}\n${provider.name}${typed ? schemaText(typed.schema) : ""}`),
      typed,
      fn: fn as Definition["fn"],
    };
    this.#definitions.set(name, definition);
    return definition;
  }

  get(name: string): Definition | undefined {
    return this.#definitions.get(name);
  }

  /** What a claim may take up. */
  versions(): ChainVersions[] {
    return [...this.#definitions.values()].map(({ name, version, accepts }) => ({ chain: name, versions: [version, ...accepts] }));
  }

  names(kind: RunKind): string[] {
    return [...this.#definitions.values()].filter((definition) => definition.kind === kind).map(({ name }) => name);
  }
}

function parseTyped({ schema, repair }: HandlerOptions): TypedOutput | undefined {
  if (schema !== undefined) return parseTypedOutput({ schema, repair });
  if (repair === undefined) return undefined;
  throw new GembatchError("invalid_option", "Option repair needs a schema.");
}

/** The schema as it is sent. One that cannot be is no error here: requests may bring their own `responseSchema`. */
function schemaText(schema: StandardSchemaV1): string {
  try {
    return `\n${JSON.stringify(responseSchemaOf(schema))}`;
  } catch {
    return "";
  }
}
