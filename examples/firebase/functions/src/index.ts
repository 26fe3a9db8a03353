import { onRequest } from "firebase-functions/https";
import { setGlobalOptions } from "firebase-functions/options";
import { gembatchFunctions } from "gembatch/firebase";
import { echoAction } from "./echo-action.js";
import { gembatch } from "./gembatch.js";
import { outputId, taskAPrompt1 } from "./task-a.js";

// One region for everything: your functions, and the worker that they wake.
setGlobalOptions({ region: "us-central1" });

/** The worker, its guarantee and its hint. `bucket: true` is the parameter GEMBATCH_VERTEX_BUCKET, which `gembatch init` writes. */
export const { gembatchWork, gembatchSweep, gembatchOutput } = gembatchFunctions(gembatch, { bucket: true });

/** Asks one question: `?q=…`. Answers with the id of its run; the answer comes later, to `echoAction`. */
export const onRequestExample = onRequest({ invoker: "private" }, async (request, response) => {
  const { q: question = "Why is the sky blue?" } = request.query as { q?: string };
  const contents = [{ role: "user", parts: [{ text: question }] }];
  const id = await gembatch.submit({ contents }, "publishers/google/models/gemini-2.5-flash", echoAction, { askedBy: "onRequestExample" });
  response.json({ id });
});

/** Begins task A: `?id=…&topic=…`. Twice with the same id is once. */
export const startTaskA = onRequest({ invoker: "private" }, async (request, response) => {
  const { id = "moon", topic = "the moon" } = request.query as { id?: string; topic?: string };
  await taskAPrompt1(id, topic);
  response.json({ id: outputId(id) });
});

/** What became of a run: `?id=…`. */
export const resultOf = onRequest({ invoker: "private" }, async (request, response) => {
  const { id = "" } = request.query as { id?: string };
  const run = await gembatch.runs.get(id);
  response.status(run ? 200 : 404).json(run ? { state: run.state, output: run.output, error: run.error?.message } : { state: "unknown" });
});
