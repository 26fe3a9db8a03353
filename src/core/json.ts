import { hash } from "node:crypto";
import { GembatchError } from "./errors.ts";

/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** JSON text with object keys sorted at every level, so that equal values have equal text. */
export function canonicalJson(value: unknown): string {
  // Most are in order already: looking is cheaper than putting the text together.
  if (isCanonical(value)) return JSON.stringify(value) ?? "null";
  return sortedJson(value);
}

/** Whether the keys of plain JSON are in order at every level. */
function isCanonical(value: unknown): boolean {
  if (value === null || typeof value !== "object") return typeof value !== "function" && typeof value !== "symbol";
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i += 1) if (!isCanonical(value[i])) return false;
    return true;
  }
  if ("toJSON" in value) return false;
  let last = "";
  for (const key of Object.keys(value)) {
    if (key < last || !isCanonical((value as Record<string, unknown>)[key])) return false;
    last = key;
  }
  return true;
}

function sortedJson(value: unknown): string {
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  if (Array.isArray(value)) {
    let text = "[";
    for (let i = 0; i < value.length; i += 1) text += (i === 0 ? "" : ",") + sortedJson(value[i]);
    return `${text}]`;
  }
  const keys = Object.keys(value).toSorted();
  let text = "{";
  for (const key of keys) {
    const item = (value as Record<string, unknown>)[key];
    if (item === undefined) continue;
    text += `${text.length === 1 ? "" : ","}${JSON.stringify(key)}:${sortedJson(item)}`;
  }
  return `${text}}`;
}

/** 128 bits of SHA-256 as 22 characters: enough that two different prompts never share a key. */
export function digest(text: string): string {
  return hash("sha256", text, "base64url").slice(0, 22);
}

/**
 * The JSON text of a value that must come back as it is. Refuses what JSON drops or bends without a word:
 * functions, symbols, bigint, `Map`, class instances, cycles, `NaN`. `undefined` stands for nothing (an absent input).
 */
export function toJson(value: unknown, what: string): string {
  if (value === undefined) return "null";
  let problem: string | undefined;
  let text = "";
  try {
    problem = findUnserializable(value, "", new Set());
    if (problem === undefined) text = JSON.stringify(value);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    problem = "it is nested too deeply, or too long";
  }
  if (problem !== undefined) {
    throw new GembatchError("not_serializable", `${what} cannot be stored as JSON: ${problem}.`, {
      hint: "Pass plain objects, arrays, strings, finite numbers, booleans and null; convert dates and maps first.",
    });
  }
  return text;
}

function findUnserializable(value: unknown, path: string, parents: Set<object>): string | undefined {
  const at = path === "" ? "it" : path.slice(1);
  switch (typeof value) {
    case "function":
      return `${at} is a function`;
    case "symbol":
      return `${at} is a symbol`;
    case "bigint":
      return `${at} is a bigint`;
    case "number":
      return Number.isFinite(value) ? undefined : `${at} is ${value}`;
    case "object":
      break;
    default:
      return undefined;
  }
  if (value === null) return undefined;
  if (parents.has(value)) return `${at} contains itself`;
  parents.add(value);
  try {
    if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i += 1) {
        const problem = findUnserializable(value[i], `${path}.${i}`, parents);
        if (problem) return problem;
      }
      return undefined;
    }
    if (losesContentAsJson(value)) return `${at} is a ${value.constructor.name}`;
    if (typeof (value as { toJSON?: unknown }).toJSON === "function") return undefined;
    for (const key of Object.keys(value)) {
      const problem = findUnserializable((value as Record<string, unknown>)[key], `${path}.${key}`, parents);
      if (problem) return problem;
    }
    return undefined;
  } finally {
    parents.delete(value);
  }
}

/** Instances of user classes are kept as their fields; built-ins whose fields are not their content are refused. */
function losesContentAsJson(value: object): boolean {
  return (
    value instanceof Map ||
    value instanceof Set ||
    value instanceof WeakMap ||
    value instanceof WeakSet ||
    value instanceof Promise ||
    value instanceof RegExp ||
    value instanceof Error ||
    value instanceof ArrayBuffer ||
    ArrayBuffer.isView(value)
  );
}
