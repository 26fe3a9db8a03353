/**
 * The chains of the worker tests, as a program of version `version` has them: the same prompts in every version, other code around them.
 *
 * @module
 */
import { appendFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { Gembatch } from "../../src/index.ts";

const model = "gemini-2.5-flash";

/** What a step leaves behind: when it began and when it ended. `file`: a line each. */
export interface StepInput {
  file: string;
  ms: number;
}

export function defineChains(gembatch: Gembatch, version: string) {
  const options = { version, ...(version === "2" ? { accepts: ["1"] } : {}) };
  const ask = async (
    models: { generateContent(params: { model: string; contents: string }): Promise<{ text?: string | undefined }> },
    n: number,
  ) => {
    const a = await models.generateContent({ model, contents: `sequence ${n} first` });
    const b = await models.generateContent({ model, contents: `sequence ${n} second after ${a.text}` });
    return (await models.generateContent({ model, contents: `sequence ${n} third after ${b.text}` })).text!;
  };
  const sequence =
    version === "2"
      ? gembatch.chain("sequence", async ({ models }, n: number) => ({ text: await ask(models, n), code: "2" }), options)
      : gembatch.chain("sequence", async ({ models }, n: number) => ({ text: await ask(models, n), code: "1" }), options);
  const slow = gembatch.chain(
    "slow",
    async ({ step }, { file, ms }: StepInput) =>
      step("work", async () => {
        appendFileSync(file, "begun\n");
        await delay(ms);
        appendFileSync(file, "ended\n");
        return "worked";
      }),
    options,
  );
  /** Its step is signed by the process that ran it: in the file before it is done, and as its output. */
  const signed = gembatch.chain(
    "signed",
    async ({ step, run }, { file, ms }: StepInput) =>
      step("sign", async () => {
        appendFileSync(file, `${run.id} ${process.pid}\n`);
        await delay(ms);
        return process.pid;
      }),
    options,
  );
  return { sequence, slow, signed };
}
