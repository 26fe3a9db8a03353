import type { Gembatch } from "gembatch";
import { facts, type Film } from "./films.ts";
import { config, model } from "./model.ts";

/** Task B, a chain with parallel branches: one prompt, then two at the same time, then one that merges them. */
export function defineTaskB(gembatch: Gembatch) {
  return gembatch.chain("b", async ({ models }, film: Film) => {
    const ask = async (contents: string) => (await models.generateContent({ model, contents, config })).text;

    const summary = await ask(`Describe this film in two sentences.\n\n${facts(film)}`);
    const [praise, blame] = await Promise.all([
      ask(`Name one strength of this film in at most six words.\n\n${summary}`),
      ask(`Name one weakness of this film in at most six words.\n\n${summary}`),
    ]);
    return ask(`Merge both into a verdict of one sentence.\n\nFilm: ${film.title}\nStrength: ${praise}\nWeakness: ${blame}`);
  });
}
