import type { Gembatch } from "gembatch";
import { field, jobLines, moneyOf, number, seconds, sum, type Snapshot } from "./progress.ts";

/** What it took, for the end. */
export async function summaryOf(gembatch: Gembatch, snapshot: Snapshot, columns: number): Promise<string[]> {
  const { stats, elapsedMs } = snapshot;
  const jobs = sum(stats.batches);
  const prompts = sum(stats.requests);
  const { items } = await gembatch.batches.list({ limit: 1_000 });
  const again = items.reduce((total, { counts }) => total + counts.requeued, 0);
  const each = jobs === 0 ? 0 : Math.round((prompts + again) / jobs);
  return [
    field(
      "runs",
      `${number(stats.runs.completed)} completed${stats.runs.failed > 0 ? ` · ${number(stats.runs.failed)} failed` : ""} · task A has two a film, one for each handler`,
      columns,
    ),
    field("prompts", `${number(prompts)} in ${number(jobs)} jobs · ${number(each)} prompts a job`, columns),
    ...(again > 0 ? [field("again", `${number(again)} prompts were asked again, because their job gave no answer`, columns)] : []),
    ...jobLines(snapshot.jobs, columns),
    field(
      "tokens",
      `${number(stats.usage.promptTokens)} in · ${number(stats.usage.outputTokens + stats.usage.thoughtTokens)} out`,
      columns,
    ),
    field("money", moneyOf(snapshot, columns), columns),
    field("time", `${seconds(elapsedMs)} since this start`, columns),
  ];
}
