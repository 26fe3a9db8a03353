export { gemini } from "./providers/gemini/provider.ts";
export type { GeminiLimits, QuotaTier } from "./providers/gemini/limits.ts";
export type { GeminiOptions } from "./providers/gemini/options.ts";
