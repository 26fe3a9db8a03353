import type { Lane } from "./provider.ts";

/**
 * The key of a row in a job's input and output: `r<request>.<attempt>`. It starts with a letter because some importers turn
 * all-digit ids into numbers, and carries the attempt so that a late answer of an earlier try is recognised.
 */
export function rowKey(request: string, attempt: number): string {
  return `r${request}.${attempt}`;
}

/** The request and attempt behind a row key; `undefined` if it is not one of ours. */
export function parseRowKey(key: string): { id: string; attempt: number } | undefined {
  const dot = key.lastIndexOf(".");
  if (dot < 2 || key.charCodeAt(0) !== 114) return undefined;
  const attempt = Number(key.slice(dot + 1));
  if (!Number.isInteger(attempt) || attempt < 1) return undefined;
  return { id: key.slice(1, dot), attempt };
}

/** What a job carries as its display name: the same for every attempt to create it, different between stores. */
export function jobToken(storeId: string, batch: string): string {
  return `gb-${storeId.slice(0, 8)}-${batch}`;
}

/** A lane as one word for logs, maps and lists: `gemini/gemini-2.5-flash:generateContent`, with its shape (`+a1b2`) and tier (`@flex`) behind it. */
export function laneName(lane: Lane): string {
  const { provider, model, method, shape, tier } = lane;
  return `${provider}/${model}:${method}${shape === undefined ? "" : `+${shape}`}${tier === undefined ? "" : `@${tier}`}`;
}
