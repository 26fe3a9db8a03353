import { setTimeout as sleep } from "node:timers/promises";
import { defaultPrices } from "gembatch";
import { config, model } from "./model.ts";
import { dollars, number } from "./progress.ts";

/** The most that tasks A, B and C ask of one film: 2, 4 and 3 prompts. */
const promptsPerFilm = 9;
/** More than any of our prompts has, earlier answers in it included. */
const tokensPerPrompt = 500;

/** What these films cost at most, in dollars at batch prices: every answer as long as allowed. */
export function mostItCosts(films: number): number {
  const price = defaultPrices.find((entry) => entry.model === model);
  if (!price) throw new Error(`There is no price for ${model}, so --live cannot say beforehand what it would cost.`);
  const perPrompt = tokensPerPrompt * price.input + config.maxOutputTokens * price.output;
  return (films * promptsPerFilm * perPrompt * 0.5) / 1e6;
}

/** Says what it will cost. On a terminal there are some seconds to think about it. */
export async function announceCost(films: number): Promise<void> {
  const most = dollars(mostItCosts(films));
  console.log(
    `This asks ${model} at most ${number(films * promptsPerFilm)} prompts for ${number(films)} films, and costs at most ${most}.`,
  );
  if (!process.stdout.isTTY || process.env["CI"]) return;
  console.log("It begins in 5 seconds; until then Ctrl-C costs nothing.");
  await sleep(5_000);
}
