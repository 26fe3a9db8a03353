import { parseArgs } from "node:util";
import { filmCount } from "./films.ts";

export interface Options {
  films: number;
  live: boolean;
  vertex: boolean;
  fresh: boolean;
}

const liveFilms = 25;

export const help = `Usage: npm start -- [options]

Three chains, A, B and C, over ${filmCount.toLocaleString("en")} films. Without --live everything is asked of a local emulator:
no network, no key, no money. Started again, it goes on where it stopped.

  --films <number>  How many films, 1 to ${filmCount} (default all; with --live ${liveFilms})
  --live            Ask Gemini, with the key in GEMINI_API_KEY; this costs money
  --vertex          Ask the emulator by the API of Vertex AI, with files in Cloud Storage
  --fresh           Start anew instead of going on
  --help            Print this
`;

/** The options, or `"help"`. Throws an error for people. */
export function readOptions(args: readonly string[]): Options | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      films: { type: "string" },
      live: { type: "boolean", default: false },
      vertex: { type: "boolean", default: false },
      fresh: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  if (values.live && values.vertex) throw new Error("--vertex is for the local emulator: with --live the Gemini API is asked.");
  const films = Number(values.films ?? (values.live ? liveFilms : filmCount));
  if (!/^\d+$/.test(values.films ?? "1") || films < 1 || films > filmCount) {
    throw new Error(`--films takes a whole number from 1 to ${filmCount}, not ${JSON.stringify(values.films)}.`);
  }
  return { films, live: values.live, vertex: values.vertex, fresh: values.fresh };
}
