import { gembatch } from "./gembatch.js";

const model = "publishers/google/models/gemini-2.5-flash";

/** Task A begins: its first prompt. The id makes it happen once, however often it is called with it. */
export async function taskAPrompt1(id: string, topic: string): Promise<string> {
  const contents = [{ role: "user", parts: [{ text: `Name three surprising facts about ${topic}.` }] }];
  return gembatch.submit({ contents }, model, taskAPrompt2, { id }, { id });
}

/** The second prompt continues the conversation. It is submitted with this handler's end, once. */
const taskAPrompt2 = gembatch.handler("taskAPrompt2", async (response, params: { id: string }) => {
  const contents = [
    { role: "model", parts: [{ text: response.text ?? "" }] },
    { role: "user", parts: [{ text: "Which of them would surprise a child most, and why?" }] },
  ];
  await gembatch.submit({ contents }, model, taskAOutput, undefined, { id: outputId(params.id) });
});

const taskAOutput = gembatch.handler("taskAOutput", (response) => response.text);

/** The run whose output is the output of task A. */
export const outputId = (id: string): string => `${id}-output`;
