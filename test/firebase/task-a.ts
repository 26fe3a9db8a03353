/** Task A of the Python library's README: two prompts and an output, each step a handler. Registered on every instance of the tests. */
import type { Gembatch } from "../../src/index.ts";
import type { Project } from "./project.ts";

export const model = "publishers/google/models/gemini-2.5-flash";
export const request = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });

export function taskA(gembatch: Gembatch): void {
  gembatch.handler("output", (response) => response.text);
  gembatch.handler("second", async (response, params: { id: string }) => {
    await gembatch.submit(request(`second of ${params.id} after ${response.text}`), model, "output", undefined, {
      id: `${params.id}-output`,
    });
  });
}

/** Submits the first prompt of each, from an instance of some other function. */
export async function submitTasks(project: Project, ids: readonly string[] = ["a"]): Promise<void> {
  const { gembatch } = project.instance();
  await Promise.all(ids.map(async (id) => gembatch.submit(request(`first of ${id}`), model, "second", { id }, { id })));
}

/** What the model says: the prompt, in brackets. */
export function echo(given: unknown): string {
  const { contents } = given as { contents: { parts: { text: string }[] }[] };
  return `<${contents.flatMap(({ parts }) => parts.map(({ text }) => text)).join("")}>`;
}

export const outputFor = (id = "a"): string => `<second of ${id} after <first of ${id}>>`;

/** The outputs of these tasks, as they are stored. */
export async function outputsOf(project: Project, ids: readonly string[] = ["a"]): Promise<unknown[]> {
  const { gembatch } = project.instance();
  return Promise.all(ids.map(async (id) => (await gembatch.runs.get(`${id}-output`))?.output));
}
