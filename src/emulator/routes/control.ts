/**
 * The emulator's own endpoints, for other processes and for people.
 *
 * @module
 */
import type { Hono } from "hono";
import type { HttpBindings } from "@hono/node-server";
import { checkFaults, faultNames, type EmulatorFaults } from "../faults.ts";
import type { Service } from "../service.ts";
import { isObject } from "../wire.ts";

export function controlRoutes(app: Hono<{ Bindings: HttpBindings }>, service: Service): void {
  app.get("/", (context) => context.text(overview(service, new URL(context.req.url).origin)));
  app.get("/.well-known/jwks.json", async (context) => context.json(await service.webhooks.jwks()));
  app.get("/__emulator/ledger", (context) => context.json(service.ledger.toJSON()));
  app.get("/__emulator/faults", (context) =>
    context.json({ settings: service.faults.settings, struck: service.faults.struck(), known: faultNames }),
  );
  // Sets the faults that the body names and leaves the others: {"rowError":{"rate":0.1},"stuck":false}.
  app.post("/__emulator/faults", async (context) => {
    const body: unknown = await context.req.json().catch(() => undefined);
    if (!isObject(body)) return context.json({ error: "Send a JSON object of faults." }, 400);
    try {
      Object.assign(service.faults.settings, checkFaults(body as EmulatorFaults));
    } catch (error) {
      return context.json({ error: error instanceof Error ? error.message : String(error) }, 400);
    }
    return context.json({ settings: service.faults.settings });
  });
  app.post("/__emulator/reset", async (context) => {
    await service.reset();
    return context.json({});
  });
}

function overview(service: Service, url: string): string {
  const { totals, calls } = service.ledger;
  const jobs = service.ledger.jobs.slice(-20).toReversed();
  const active = Object.entries(service.faults.settings).filter(
    ([, setting]) => setting !== undefined && setting !== false && setting !== 0,
  );
  return [
    "Gemini emulator: speaks the Gemini Developer API, Vertex AI, and what it needs of Cloud Storage and BigQuery. Asks no model, costs nothing.",
    "",
    `  export GOOGLE_GEMINI_BASE_URL=${url} GEMINI_API_KEY=${service.options.apiKey === undefined ? "emulator" : "<the key it was started with>"}`,
    `  export GOOGLE_VERTEX_BASE_URL=${url} STORAGE_EMULATOR_HOST=${url} BIGQUERY_EMULATOR_HOST=${url}`,
    "",
    `Jobs ${totals.jobs}, rows sent ${totals.sentRows}, rows billed ${totals.billedRows}, direct calls ${totals.directCalls}.`,
    `Tokens: prompt ${totals.promptTokens}, output ${totals.outputTokens}. Most unfinished jobs at a time: ${totals.peakConcurrentJobs}.`,
    `Faults: ${active.length === 0 ? "none" : active.map(([name, setting]) => `${name}=${JSON.stringify(setting)}`).join(" ")}`,
    `Calls: ${
      Object.entries(calls)
        .map(([name, count]) => `${name} ${count}`)
        .join(", ") || "none"
    }`,
    "",
    ...jobs.map(
      (job) =>
        `${job.state.padEnd(9)} ${job.name}  ${String(job.rows).padStart(7)} rows  ${job.model}  ${job.displayName}${job.deleted ? "  (deleted)" : ""}`,
    ),
    ...(jobs.length === 0 ? ["No jobs yet."] : []),
    "",
    "GET /__emulator/ledger   GET, POST /__emulator/faults   POST /__emulator/reset",
    "",
  ].join("\n");
}
