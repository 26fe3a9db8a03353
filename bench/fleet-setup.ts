import type { Gembatch } from "../src/index.ts";
import { promptOf } from "./rows.ts";

/** What a worker of the fleet is told. */
export interface FleetSetup {
  store: string;
  emulator: string;
  steps: number;
  maxRequests: number;
}

export function defineFleetChain(gembatch: Gembatch, steps: number) {
  return gembatch.chain("bench", async ({ models }, input: { n: number }) => {
    let text = "";
    for (let step = 0; step < steps; step += 1) {
      const response = await models.generateContent({ model: "gemini-2.5-flash", contents: promptOf(input.n, step, text) });
      text = response.text ?? "";
    }
    return text;
  });
}
