import { hash32 } from "./chance.ts";
import { promptTokens, textOf } from "./prompt.ts";
import { isObject, type JsonObject } from "./wire.ts";

/**
 * A unit vector for a text: the sum of one pseudo-random vector a word, so that texts which share words lie close to
 * each other, and the same text always gives the same vector.
 */
export function embedText(text: string, dimensions: number, seed: string): number[] {
  const sums = new Float64Array(dimensions);
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  add(sums, hash32(`${seed} ${text}`), 0.2);
  for (const word of words.slice(0, 200)) add(sums, hash32(`${seed} word ${word}`), 1);
  let square = 0;
  for (const value of sums) square += value * value;
  const length = Math.sqrt(square) || 1;
  return Array.from(sums, (value) => Math.round((value / length) * 1e8) / 1e8);
}

function add(sums: Float64Array, seed: number, weight: number): void {
  let state = seed || 1;
  for (let i = 0; i < sums.length; i += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    sums[i] = (sums[i] as number) + weight * (state / 2_147_483_648);
  }
}

/** How many numbers an embedding of this request has: `outputDimensionality`, else what the model is known for. */
export function dimensionsOf(request: JsonObject, model: string): number {
  const config = isObject(request.embedContentConfig) ? request.embedContentConfig : {};
  const wanted = Number(request.outputDimensionality ?? config.outputDimensionality);
  if (Number.isInteger(wanted) && wanted >= 1 && wanted <= 3_072) return wanted;
  return model.startsWith("gemini-embedding") ? 3_072 : 768;
}

export function embeddingOf(request: JsonObject, model: string, seed: string): { values: number[] } {
  return { values: embedText(textOf(request.content), dimensionsOf(request, model), seed) };
}

/** The EmbedContentResponse of a batch row: its token count is an int64, so a string. */
export function embeddingRow(request: JsonObject, values: readonly number[]): JsonObject {
  return { tokenCount: String(promptTokens(request)), embedding: { values } };
}
