import { describe, GembatchError } from "../core/errors.ts";
import { digest } from "../core/json.ts";
import { refuseUnknown, parseCount } from "../core/options.ts";
import type { RunKind, ChainVersions } from "../core/store.ts";

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
}

/** A registered chain or handler. */
export interface Definition {
  kind: RunKind;
  name: string;
  version: string;
  accepts: readonly string[];
  maxAttempts: number;
  /** Digest of version and source: tells a deploy from non-determinism. */
  code: string;
  // The registry is the one place where the types of all chains meet; `chain()` and `handler()` restore them.
  fn: (...args: never[]) => unknown;
}

/** All chains and handlers of one gembatch, by name. A name is what survives a deploy. */
export class Registry {
  readonly #definitions = new Map<string, Definition>();

  add(kind: RunKind, name: unknown, fn: unknown, options: DefinitionOptions = {}): Definition {
    if (typeof name !== "string" || name.trim() === "") {
      throw new GembatchError("invalid_argument", `A ${kind} needs a name, got ${describe(name)}.`, {
        hint: `Write gembatch.${kind}("my-${kind}", async (…) => …): the name is what stored runs refer to.`,
      });
    }
    if (typeof fn !== "function") {
      throw new GembatchError("invalid_argument", `The ${kind} "${name}" needs a function, got ${describe(fn)}.`);
    }
    refuseUnknown(options, ["version", "accepts", "maxAttempts"], `${kind}("${name}")`);
    const present = this.#definitions.get(name);
    if (present) {
      throw new GembatchError("duplicate_name", `The name "${name}" is already taken by a ${present.kind}.`, {
        hint: "Chains and handlers share one set of names; choose another, or check that a module is not loaded twice.",
      });
    }
    const version = options.version ?? "";
    const definition: Definition = {
      kind,
      name,
      version,
      accepts: options.accepts ?? [],
      maxAttempts: options.maxAttempts === undefined ? 1 : parseCount(options.maxAttempts, `${kind}("${name}").maxAttempts`),
      code: digest(`${version}\n${Function.prototype.toString.call(fn)}`),
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
