import { Type } from "@google/genai";
import type { Gembatch } from "gembatch";
import { facts, type Film } from "./films.ts";
import { config, model } from "./model.ts";

export interface Labels {
  mood: string;
  audience: string;
  sure: boolean;
}

const responseSchema = {
  type: Type.OBJECT,
  properties: {
    mood: { type: Type.STRING, enum: ["warm", "tense", "dark", "funny", "sad", "epic"] },
    audience: { type: Type.STRING, enum: ["children", "families", "teenagers", "adults"] },
    sure: { type: Type.BOOLEAN, description: "Whether the facts are enough to tell." },
  },
  required: ["mood", "audience", "sure"],
};

/** Task C, with structured output: labels as JSON, asked again while the model is not sure. One to three prompts, as the answers want it. */
export function defineTaskC(gembatch: Gembatch) {
  return gembatch.chain("c", async ({ models }, film: Film) => {
    let contents = `Label this film.\n\n${facts(film)}`;
    for (let prompts = 1; ; prompts += 1) {
      const response = await models.generateContent({
        model,
        contents,
        config: { ...config, responseMimeType: "application/json", responseSchema },
      });
      const labels = JSON.parse(response.text ?? "") as Labels;
      if (labels.sure || prompts === 3) return labels;
      contents += `\n\nYou said ${response.text} and were not sure. Look again.`;
    }
  });
}
