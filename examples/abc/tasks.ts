import type { Gembatch } from "gembatch";
import type { Film } from "./films.ts";
import { defineTaskA } from "./task-a.ts";
import { defineTaskB } from "./task-b.ts";
import { defineTaskC } from "./task-c.ts";

/** A task as the rest of the program sees it. */
export interface Task {
  name: string;
  about: string;
  /** Starts a run for each film that has none. */
  start(films: Film[]): Promise<unknown>;
  /** The runs of a film, first to last; the last one's output is the task's. */
  runIds(film: Film): string[];
}

/** Tasks A, B and C. Every run has an id of its own making, so that starting it again means going on. */
export function defineTasks(gembatch: Gembatch): Task[] {
  const startA = defineTaskA(gembatch);
  const b = defineTaskB(gembatch);
  const c = defineTaskC(gembatch);
  return [
    {
      name: "A",
      about: "2 prompts, callbacks",
      start: async (films) => {
        for (let from = 0; from < films.length; from += 100) await Promise.all(films.slice(from, from + 100).map(startA));
      },
      runIds: (film) => [`a-${film.id}`, `a-${film.id}-output`],
    },
    {
      name: "B",
      about: "4 prompts, 2 in parallel",
      start: (films) => b.startMany(films, { id: (film) => `b-${film.id}` }),
      runIds: (film) => [`b-${film.id}`],
    },
    {
      name: "C",
      about: "1 to 3 prompts, JSON",
      start: (films) => c.startMany(films, { id: (film) => `c-${film.id}` }),
      runIds: (film) => [`c-${film.id}`],
    },
  ];
}
