/** The prompt of a step: the same texts in every scenario, so that rows have the same size. */
export function promptOf(run: number, step: number, before: string): string {
  return `Step ${step} of document ${run}. Say it in other words and keep names as they are: ${before}`;
}

/** The REST body that the official SDK makes of a prompt. */
export function bodyOf(prompt: string): string {
  return JSON.stringify({ contents: [{ parts: [{ text: prompt }], role: "user" }] });
}
