/**
 * The 3,201 films of the `vega-datasets` package: real records, with holes in them.
 *
 * @module
 */
import { readFile } from "node:fs/promises";

export interface Film {
  /** `0001` to `3201`: part of every run's id, so that a second start finds the runs of the first. */
  id: string;
  title: string;
  year: number;
  genre: string | null;
  director: string | null;
  source: string | null;
  distributor: string | null;
  minutes: number | null;
  /** IMDB's, of 10. */
  rating: number | null;
}

/** A film as the package has it. */
interface MovieRecord {
  Title: string | number | null;
  "Release Date": string;
  "Major Genre": string | null;
  Director: string | null;
  Source: string | null;
  Distributor: string | null;
  "Running Time min": number | null;
  "IMDB Rating": number | null;
}

export const filmCount = 3_201;

export async function readFilms(count = filmCount): Promise<Film[]> {
  const file = new URL("../data/movies.json", import.meta.resolve("vega-datasets"));
  const records = JSON.parse(await readFile(file, "utf8")) as MovieRecord[];
  return records.slice(0, count).map(toFilm);
}

function toFilm(record: MovieRecord, index: number): Film {
  return {
    id: String(index + 1).padStart(4, "0"),
    title: mendLetters(String(record.Title ?? "Untitled")),
    year: mendYear(Number(record["Release Date"].slice(-4))),
    genre: record["Major Genre"],
    director: record.Director,
    source: record.Source,
    distributor: record.Distributor,
    minutes: record["Running Time min"],
    rating: record["IMDB Rating"],
  };
}

/** What is known of a film, as the part of a prompt that all three tasks share. */
export function facts(film: Film): string {
  const known = {
    Film: film.title,
    Year: film.year,
    Genre: film.genre,
    Director: film.director,
    Source: film.source,
    Distributor: film.distributor,
    Minutes: film.minutes,
    "IMDB rating": film.rating,
  };
  return Object.entries(known)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
}

/** The records end in 2011; "Wings" of 2027 is of 1927. */
function mendYear(year: number): number {
  return year > 2011 ? year - 100 : year;
}

/** Some titles were once read in the wrong alphabet: "LÈon" is "Léon". */
function mendLetters(title: string): string {
  return [...title].map((letter) => misread.get(letter) ?? letter).join("");
}

const upperHalf = Uint8Array.from({ length: 128 }, (_, index) => 128 + index);
const meant = new TextDecoder("windows-1252").decode(upperHalf);
const misread = new Map([...new TextDecoder("macintosh").decode(upperHalf)].map((letter, index) => [letter, meant[index]]));
