/**
 * Standard Schema and Standard JSON Schema, as far as gembatch uses them: the interfaces of `@standard-schema/spec` (https://standardschema.dev, MIT), which may be
 * copied instead of depended on. zod, valibot, arktype and others implement them.
 *
 * @module
 */
import { describe, GembatchError } from "../core/errors.ts";

/** Any schema of a library that follows Standard Schema. */
export interface StandardSchemaV1<Input = unknown, Output = Input> {
  readonly "~standard": StandardSchemaV1.Props<Input, Output>;
}

export declare namespace StandardSchemaV1 {
  export interface Props<Input = unknown, Output = Input> {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => Result<Output> | Promise<Result<Output>>;
    /** Never set: carries the types. */
    readonly types?: Types<Input, Output> | undefined;
  }

  export type Result<Output> = SuccessResult<Output> | FailureResult;

  export interface SuccessResult<Output> {
    readonly value: Output;
    readonly issues?: undefined;
  }

  export interface FailureResult {
    readonly issues: ReadonlyArray<Issue>;
  }

  export interface Issue {
    readonly message: string;
    readonly path?: ReadonlyArray<PropertyKey | PathSegment> | undefined;
  }

  export interface PathSegment {
    readonly key: PropertyKey;
  }

  export interface Types<Input = unknown, Output = Input> {
    readonly input: Input;
    readonly output: Output;
  }

  export type InferOutput<Schema extends StandardSchemaV1> = NonNullable<Schema["~standard"]["types"]>["output"];
}

/** Standard JSON Schema, and the methods that came before it. */
interface WithJsonSchema {
  readonly "~standard": { readonly jsonSchema?: { readonly input?: (options: { target: string }) => unknown } };
  readonly toJSONSchema?: (options: { io: "input" }) => unknown;
  readonly toJsonSchema?: () => unknown;
}

/** The dialects that the standard recommends; we read both. */
const targets = ["draft-2020-12", "draft-07"];

export function checkStandardSchema(schema: unknown): asserts schema is StandardSchemaV1 {
  const standard = isObject(schema) ? (schema as { "~standard"?: { validate?: unknown } })["~standard"] : undefined;
  if (typeof standard?.validate === "function") return;
  throw new GembatchError("invalid_option", `Option schema must be a Standard Schema, got ${describe(schema)}.`, {
    hint: "Schemas of zod (from 3.24), valibot, arktype and others are; a plain JSON Schema is not, because it cannot validate.",
  });
}

/**
 * The JSON Schema of what the schema takes, `undefined` if its library gives none. Of its input and not of its output: the model writes what validation
 * reads, before defaults and transforms.
 */
export function jsonSchemaOf(schema: StandardSchemaV1): unknown {
  const source = schema as unknown as WithJsonSchema;
  const standard = source["~standard"].jsonSchema;
  if (typeof standard?.input === "function") return firstTarget((target) => standard.input?.({ target }));
  if (typeof source.toJSONSchema === "function") return source.toJSONSchema({ io: "input" });
  if (typeof source.toJsonSchema === "function") return source.toJsonSchema();
  return undefined;
}

/** A library that does not know a dialect throws; the reason that counts is the one for the first. */
function firstTarget(give: (target: string) => unknown): unknown {
  const errors: unknown[] = [];
  for (const target of targets) {
    try {
      return give(target);
    } catch (error) {
      errors.push(error);
    }
  }
  throw errors[0];
}

/** Schemas of some libraries are functions. */
function isObject(value: unknown): value is object {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}
