/**
 * Reading a GenerateContentRequest: its text, its size in tokens, the form of answer that it asks for.
 *
 * @module
 */
import { isObject, type JsonObject } from "./wire.ts";

/** The parts of `contents` or of one content; the API also takes a single content where a list belongs. */
export function partsOf(contents: unknown): JsonObject[] {
  const list = Array.isArray(contents) ? contents : [contents];
  return list.flatMap((content) => (isObject(content) && Array.isArray(content.parts) ? content.parts : [])).filter(isObject);
}

/** The text of the last content that has one: usually what the user asked. */
export function lastText(request: JsonObject): string {
  const contents = Array.isArray(request.contents) ? request.contents : [request.contents ?? request.content];
  for (let i = contents.length - 1; i >= 0; i -= 1) {
    const text = textOf(contents[i]);
    if (text !== "") return text;
  }
  return "";
}

/** All text of a content or of a list of contents. */
export function textOf(contents: unknown): string {
  let text = "";
  for (const part of partsOf(contents)) if (typeof part.text === "string") text += (text === "" ? "" : "\n") + part.text;
  return text;
}

/** Its first words, on one line, at most 60 characters. */
export function firstWords(text: string): string {
  const words = text.trimStart().slice(0, 120).trim().split(/\s+/);
  let result = "";
  for (const word of words.slice(0, 8)) {
    if (result.length + word.length >= 60) return result === "" ? `${word.slice(0, 59)}…` : `${result}…`;
    result += (result === "" ? "" : " ") + word;
  }
  return words.length > 8 ? `${result}…` : result;
}

/** About four characters a token. */
export function tokensOf(characters: number): number {
  return characters === 0 ? 0 : Math.max(1, Math.ceil(characters / 4));
}

/** Tokens of a request: its text, tools and structured parts, and 258 for every picture or file. */
export function promptTokens(request: JsonObject): number {
  let characters = 0;
  let media = 0;
  for (const source of [request.contents, request.systemInstruction, request.content]) {
    if (source === undefined) continue;
    for (const part of partsOf(source)) {
      if (typeof part.text === "string") characters += part.text.length;
      else if (part.inlineData !== undefined || part.fileData !== undefined) media += 258;
      else characters += JSON.stringify(part).length;
    }
  }
  if (Array.isArray(request.tools) && request.tools.length > 0) characters += JSON.stringify(request.tools).length;
  return tokensOf(characters) + media;
}

/** How the answer must look. */
export type AnswerForm = { kind: "text" } | { kind: "json"; schema: unknown } | { kind: "enum"; values: readonly string[] };

export function formOf(request: JsonObject): AnswerForm {
  const config = isObject(request.generationConfig) ? request.generationConfig : {};
  const formats = Array.isArray(config.responseFormat) ? config.responseFormat : [config.responseFormat];
  for (const format of formats) {
    const text = isObject(format) ? (isObject(format.text) ? format.text : format) : undefined;
    if (text?.schema !== undefined) return { kind: "json", schema: text.schema };
  }
  const schema = config.responseSchema ?? config.responseJsonSchema;
  const type = typeof config.responseMimeType === "string" ? config.responseMimeType.toLowerCase() : "";
  if (type === "text/x.enum" && isObject(schema) && Array.isArray(schema.enum)) {
    return { kind: "enum", values: schema.enum.filter((value): value is string => typeof value === "string") };
  }
  if (schema !== undefined || type === "application/json") return { kind: "json", schema };
  return { kind: "text" };
}

/** A function that the request forces the model to call. */
export interface ForcedCall {
  name: string;
  parameters: unknown;
}

/** The functions to choose from when calling one is mandatory (mode ANY); empty otherwise. */
export function forcedCalls(request: JsonObject): ForcedCall[] {
  if (!isObject(request.toolConfig) || !Array.isArray(request.tools)) return [];
  const config = request.toolConfig.functionCallingConfig;
  if (!isObject(config) || config.mode !== "ANY") return [];
  const allowed = Array.isArray(config.allowedFunctionNames) ? config.allowedFunctionNames : [];
  return request.tools
    .flatMap((tool) => (isObject(tool) && Array.isArray(tool.functionDeclarations) ? tool.functionDeclarations : []))
    .filter((declaration): declaration is JsonObject => isObject(declaration) && typeof declaration.name === "string")
    .filter((declaration) => allowed.length === 0 || allowed.includes(declaration.name))
    .map((declaration) => ({
      name: String(declaration.name),
      parameters: declaration.parameters ?? declaration.parametersJsonSchema ?? { type: "object" },
    }));
}
