import { formatDuration } from "../core/duration.ts";
import { laneName } from "../core/keys.ts";
import type { BatchRecord, CostLine, LaneRecord, RunRecord, Stats } from "../index.ts";

export function statusText(stats: Stats): string {
  const { usage, cost } = stats;
  const lines = [
    `runs      ${counts(stats.runs)}`,
    `requests  ${counts(stats.requests)}`,
    `batches   ${counts(stats.batches)}`,
    `tokens    ${usage.promptTokens.toLocaleString("en")} in, ${(usage.outputTokens + usage.thoughtTokens).toLocaleString("en")} out`,
    `money     $${cost.usd.toFixed(4)} spent, $${(cost.standardUsd - cost.usd).toFixed(4)} saved against the standard tier`,
  ];
  if (cost.unknownModels.length > 0)
    lines.push(`          without the answers of ${cost.unknownModels.join(", ")}: their price is unknown`);
  if (stats.duplicateJobs > 0) lines.push(`warning   ${stats.duplicateJobs} duplicate jobs were found, cancelled and not read`);
  return `${lines.join("\n")}\n`;
}

export function runsText(runs: readonly RunRecord[]): string {
  if (runs.length === 0) return "No runs.\n";
  return table(
    ["run", "chain", "state", "started", "error"],
    runs.map((run) => [run.id, run.chain, run.state, instant(run.createdAt), run.error?.message.split("\n")[0]?.slice(0, 100) ?? ""]),
  );
}

export function batchesText(batches: readonly BatchRecord[]): string {
  if (batches.length === 0) return "No batches.\n";
  return table(
    ["batch", "model", "state", "requests", "job", "took"],
    batches.map((batch) => [
      batch.id,
      `${batch.lane.provider}/${batch.lane.model}`,
      batch.held ? "held" : batch.state,
      String(batch.requestCount),
      batch.job ?? "",
      batch.endedAt === undefined || batch.launchedAt === undefined ? "" : formatDuration(batch.endedAt - batch.launchedAt),
    ]),
  );
}

export function lanesText(lanes: readonly LaneRecord[]): string {
  if (lanes.length === 0) return "No lanes.\n";
  return table(
    ["lane", "queued", "in batches", "answers", "waits because"],
    lanes.map((lane) => [
      laneName(lane.lane),
      String(lane.queued),
      String(lane.inBatches),
      String(lane.answers),
      lane.blocked?.reason ?? "",
    ]),
  );
}

export function costsText(lines: readonly CostLine[]): string {
  const [first] = lines;
  if (first === undefined) return "No answers.\n";
  const by = (["day", "chain", "provider", "model", "tier"] as const).filter((dimension) => first[dimension] !== undefined);
  return table(
    [...by, "answers", "tokens in", "tokens out", "cost", "standard tier", "unpriced"],
    lines.map((line) => [
      ...by.map((dimension) => line[dimension] ?? ""),
      line.answers.toLocaleString("en"),
      (line.usage.promptTokens + line.usage.toolTokens).toLocaleString("en"),
      (line.usage.outputTokens + line.usage.thoughtTokens).toLocaleString("en"),
      `$${line.usd.toFixed(4)}`,
      `$${line.standardUsd.toFixed(4)}`,
      line.unpriced === 0 ? "" : String(line.unpriced),
    ]),
  );
}

function counts(states: Readonly<Record<string, number>>): string {
  const shown = Object.entries(states).filter(([, count]) => count > 0);
  return shown.length === 0 ? "none" : shown.map(([state, count]) => `${count.toLocaleString("en")} ${state.replace("_", " ")}`).join(", ");
}

function instant(ms: number): string {
  return new Date(ms).toISOString().replace("T", " ").slice(0, 19);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd();
  return `${[line(head), ...rows.map(line)].join("\n")}\n`;
}
