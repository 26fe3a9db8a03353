import type { EmulatorOptions } from "./options.ts";

const usualModels = /^(?:gemini|gemma|learnlm|embedding|text-embedding)-[\w.-]+$/;
/** Of other publishers on Vertex: `anthropic/claude-…`, `meta/…-maas`. */
const otherModels = /^(?:anthropic\/claude-[\w.@-]+|[\w-]+\/[\w.-]+-maas)$/;

/** Whether a model exists, by the option `models`. */
export function modelCheck(models: EmulatorOptions["models"]): (model: string) => boolean {
  if (models === undefined) return (model) => usualModels.test(model) || otherModels.test(model);
  if (typeof models === "function") return models;
  if (models instanceof RegExp) return (model) => new RegExp(models.source, models.flags.replace(/[gy]/g, "")).test(model);
  const names = new Set(models.map((model) => model.replace(/^models\//, "")));
  return (model) => names.has(model);
}
