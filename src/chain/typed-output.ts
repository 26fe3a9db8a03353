/**
 * Typed output: the schema of a call becomes `responseSchema`, every reply is validated with it, and an invalid one is asked for again with what is wrong.
 *
 * @module
 */
import type { Content, ContentListUnion, GenerateContentParameters, GenerateContentResponse, Part, Schema } from "@google/genai";
import { describe, GembatchError } from "../core/errors.ts";
import { digest } from "../core/json.ts";
import { parseCount } from "../core/options.ts";
import type { BatchModels } from "./context.ts";
import { toResponseSchema } from "./response-schema.ts";
import { checkStandardSchema, jsonSchemaOf, type StandardSchemaV1 } from "./standard-schema.ts";
import { complaintAbout, outputInvalid, readReply } from "./typed-reply.ts";

/** A checked `schema` with its `repair`. */
export interface TypedOutput<S extends StandardSchemaV1 = StandardSchemaV1> {
  schema: S;
  /** How often an invalid reply is asked for again. */
  repair: number;
}

/** The official response with the validated value of its JSON. */
export type TypedResponse<S extends StandardSchemaV1> = GenerateContentResponse & { output: StandardSchemaV1.InferOutput<S> };

/** Asks again: the conversation so far, then these turns. `tries` counts the answers so far, from 1. */
export type AskAgain = (turns: readonly Content[], tries: number) => Promise<GenerateContentResponse>;

const defaultRepair = 2;
const jsonType = "application/json";

export function parseTypedOutput<S extends StandardSchemaV1>(options: { schema: S; repair?: number | undefined }): TypedOutput<S> {
  checkStandardSchema(options.schema);
  return { schema: options.schema, repair: options.repair === undefined ? defaultRepair : parseCount(options.repair, "repair", 0) };
}

// The schema in the prompt ---------------------------------------------------------------------------------------------------

/** Converted once per schema: a chain asks with the same one at every replay. */
const converted = new WeakMap<StandardSchemaV1, Schema>();

/** @throws `invalid_option` if the schema's library gives no JSON Schema, or one that `responseSchema` cannot say. */
export function responseSchemaOf(schema: StandardSchemaV1): Schema {
  const known = converted.get(schema);
  if (known) return known;
  const responseSchema = toResponseSchema(givenJsonSchema(schema));
  converted.set(schema, responseSchema);
  return responseSchema;
}

function givenJsonSchema(schema: StandardSchemaV1): unknown {
  const hint =
    "Two ways: a schema that gives JSON Schema (zod from 4.2, arktype, toStandardJsonSchema() of @valibot/to-json-schema), " +
    "or config.responseSchema (generationConfig.responseSchema of a submitted request) by hand; then `schema` only validates.";
  let given: unknown;
  try {
    given = jsonSchemaOf(schema);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GembatchError("invalid_option", `The schema has no JSON Schema: ${why.replace(/\.?$/, ".")}`, { hint, cause });
  }
  if (given !== undefined) return given;
  throw new GembatchError("invalid_option", `The schema (of ${schema["~standard"].vendor}) gives no JSON Schema, so it cannot be sent.`, {
    hint,
  });
}

/** The parameters of the SDK with `responseSchema`, unless they say themselves what to answer in. Never `responseJsonSchema`: in batch jobs it was reported to fail. */
export function withResponseSchema(params: GenerateContentParameters, schema: StandardSchemaV1): GenerateContentParameters {
  return { ...params, config: withSchema(params.config ?? {}, schema) };
}

/** The same for a REST body. */
export function withRestSchema<R extends { generationConfig?: object }>(request: R, schema: StandardSchemaV1): R {
  return { ...request, generationConfig: withSchema(request.generationConfig ?? {}, schema) };
}

function withSchema<C extends { responseSchema?: unknown; responseJsonSchema?: unknown; responseMimeType?: string }>(
  config: C,
  schema: StandardSchemaV1,
): C {
  const { responseMimeType = jsonType } = config;
  if (responseMimeType !== jsonType) {
    throw new GembatchError("invalid_option", `With a schema, responseMimeType must be "${jsonType}", got ${describe(responseMimeType)}.`);
  }
  const isGiven = config.responseSchema !== undefined || config.responseJsonSchema !== undefined;
  return { ...config, responseMimeType, ...(isGiven ? {} : { responseSchema: responseSchemaOf(schema) }) };
}

// Replies --------------------------------------------------------------------------------------------------------------------

/**
 * The first response that fits, with its output. An invalid one is asked for again: each time with the original conversation, the model's last turn and
 * what is wrong with it. Rejects with `output_invalid` when no tries are left, or when there is no turn to go on from (blocked, empty, a function call).
 */
export async function completeOutput<S extends StandardSchemaV1>(
  first: GenerateContentResponse,
  { schema, repair }: TypedOutput<S>,
  askAgain: AskAgain,
): Promise<TypedResponse<S>> {
  let response = first;
  for (let tries = 1; ; tries += 1) {
    const reply = await readReply(response, schema as StandardSchemaV1<unknown, StandardSchemaV1.InferOutput<S>>);
    if ("output" in reply) return Object.assign(response, { output: reply.output });
    if (tries > repair || !reply.turn) throw outputInvalid(reply, tries);
    response = await askAgain([reply.turn, complaintAbout(reply)], tries);
  }
}

/**
 * The key of a prompt that asks again. There always is one, so that a library which words its issues otherwise after an upgrade is an edited prompt, whose
 * answer is kept, and not another prompt. Without the caller's key it is made of what was asked and answered.
 */
export function repairKey(key: string | undefined, asked: unknown, tries: number): string {
  return key === undefined ? `~repair${tries}:${digest(JSON.stringify(asked))}` : `${key}~repair${tries}`;
}

/** The conversation behind a response: with the calls that the SDK made by itself, if it did. */
export function conversationOf(params: GenerateContentParameters, response: GenerateContentResponse): Content[] {
  return response.automaticFunctionCallingHistory ?? toContents(params.contents);
}

function toContents(contents: ContentListUnion): Content[] {
  const list: readonly (Content | Part | string)[] = Array.isArray(contents) ? contents : [contents];
  if (list.every((item) => typeof item === "object" && "parts" in item)) return list as Content[];
  return [{ role: "user", parts: list.map((item) => (typeof item === "string" ? { text: item } : (item as Part))) }];
}

/**
 * The parameters with another conversation. It travels as it is, beside the SDK's converter, which drops fields of parts that it does not know: a model's turn must
 * go back unchanged.
 */
export function withConversation(params: GenerateContentParameters, contents: readonly Content[]): GenerateContentParameters {
  const { config } = params;
  const httpOptions = { ...config?.httpOptions, extraBody: { ...config?.httpOptions?.extraBody, contents } };
  // The tools were called already; here they would be called in place of an answer.
  return { ...params, config: { ...config, automaticFunctionCalling: { disable: true }, httpOptions } };
}

/** A prompt that was submitted to a handler. */
export interface SubmittedPrompt {
  model: string;
  /** Who answered it; repairs are asked there, too. */
  provider?: string;
  /** REST. */
  body: { contents: Content[] };
}

/** What `completeOutput` does, for the response to a submitted prompt. `load` reads the prompt, which is only needed if the response does not fit. */
export async function completeSubmitted(
  response: unknown,
  typed: TypedOutput,
  models: BatchModels,
  load: () => Promise<SubmittedPrompt>,
): Promise<TypedResponse<StandardSchemaV1>> {
  return completeOutput(response as GenerateContentResponse, typed, async (turns, tries) => {
    const { model, provider, body } = await load();
    // The SDK sends `extraBody` as it is, and `contents` of its own there is none.
    const extraBody = { ...body, contents: [...body.contents, ...turns] };
    return models.generateContent(
      { model, contents: "-", config: { httpOptions: { extraBody } } },
      {
        key: repairKey("", turns, tries),
        ...(provider === undefined ? {} : { provider }),
      },
    );
  });
}
