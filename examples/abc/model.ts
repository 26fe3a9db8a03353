/** One model for all prompts: what shares a model shares jobs. */
export const model = "gemini-2.5-flash";

/** Short answers that need no thinking. */
export const config = { maxOutputTokens: 200, thinkingConfig: { thinkingBudget: 0 } };
