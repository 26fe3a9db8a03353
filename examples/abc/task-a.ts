import type { Gembatch, GenerateContentRequest } from "gembatch";
import { facts, type Film } from "./films.ts";
import { config, model } from "./model.ts";

/** Task A, in callback style: a prompt is submitted together with the handler that its response goes to. Two prompts. */
export function defineTaskA(gembatch: Gembatch) {
  const output = gembatch.handler<Film>("a-output", (response) => response.text);

  const second = gembatch.handler("a-second", async (response, film: Film) => {
    const request = prompt(`Shorten this pitch to a tagline of at most ten words.\n\n${response.text}`);
    await gembatch.submit(request, model, output, film, { id: `a-${film.id}-output` });
  });

  return async (film: Film) => {
    const request = prompt(`Write a pitch of two sentences for this film.\n\n${facts(film)}`);
    await gembatch.submit(request, model, second, film, { id: `a-${film.id}` });
  };
}

function prompt(text: string): GenerateContentRequest {
  return { contents: [{ role: "user", parts: [{ text }] }], generationConfig: config };
}
