import type { AnswerScript } from "gembatch/emulator";

const places = [
  "A quiet town",
  "One long night",
  "A family house",
  "A borrowed name",
  "The last train",
  "A small lie",
  "An old debt",
  "A perfect plan",
];
const turns = [
  "changes everybody",
  "comes undone",
  "asks for more",
  "brings two strangers together",
  "costs a friendship",
  "will not stay hidden",
];
const themes = ["courage", "doubt", "luck", "loyalty", "memory", "pride", "second chances", "growing up"];
const amounts = ["no", "a little", "too much", "a last bit of", "some", "not enough"];
const strengths = ["its pace", "the music", "the lead", "the dialogue", "its humour", "the camera work", "the ending", "its villain"];
const weaknesses = ["a slow start", "too many subplots", "a thin second act", "its length", "an easy way out", "flat supporting roles"];

/**
 * What the emulator says in place of a model: made up from the prompt, and the same for the same prompt. `undefined` leaves the answer to the
 * emulator, which knows how to make JSON for a schema.
 */
export const answer: AnswerScript = (request, { hash }) => {
  const prompt = (request as { contents: { parts: { text: string }[] }[] }).contents[0]?.parts[0]?.text ?? "";
  const title = (/^Film: (.*)$/m.exec(prompt) ?? /“(.+)”/.exec(prompt))?.[1] ?? "this film";
  const pick = (list: readonly string[], turn = 0) => list[(hash.charCodeAt(turn) + 7 * hash.charCodeAt(turn + 1)) % list.length] ?? "";
  switch (prompt.split(" ", 1)[0]) {
    case "Write":
      return `${pick(places)} ${pick(turns, 2)}. “${title}” is a story of ${pick(themes, 4)} and ${pick(themes, 6)}.`;
    case "Shorten":
      return `${places.find((place) => prompt.includes(`\n${place} `)) ?? title}, ${pick(amounts)} ${pick(themes, 2)}.`;
    case "Describe":
      return `“${title}” begins with ${pick(themes)} and ends with ${pick(themes, 2)}. In between, ${pick(places, 4).toLowerCase()} ${pick(turns, 6)}.`;
    case "Name":
      return prompt.startsWith("Name one strength") ? pick(strengths) : pick(weaknesses);
    case "Merge": {
      const [, praise, blame] = /^Strength: (.*)\nWeakness: (.*)$/m.exec(prompt) ?? [];
      return `See it for ${praise}, in spite of ${blame}.`;
    }
    default:
      return undefined;
  }
};
