import { Deltas, type SpendChange } from "../deltas.ts";
import type { Connection } from "./connection.ts";

/** Counters of this file; written by the transaction's last statements. */
export class Tallies extends Deltas<number> {
  flush(connection: Connection): void {
    const update = connection.prepare(`
      INSERT INTO tallies (no, count) VALUES (?, ?) ON CONFLICT (no) DO UPDATE SET count = count + excluded.count`);
    for (const [no, delta] of this.counts) if (delta !== 0) update.run(no, delta);
    if (this.lanes.size > 0) {
      const update = connection.prepare(`
        UPDATE lanes SET
          queued = queued + ?, bytes = bytes + ?, tokens = tokens + ?, usd = usd + ?, unpriced = unpriced + ?, delayed = delayed + ?,
          isolated = isolated + ?
        WHERE no = ?`);
      for (const [no, { queued, bytes, tokens, usd, unpriced, delayed, isolated }] of this.lanes) {
        update.run(queued, bytes, tokens, usd, unpriced, delayed, isolated, no);
      }
    }
    for (const change of this.spend) addSpend(connection, change);
    this.clear();
  }
}

function addSpend(connection: Connection, change: SpendChange<number>): void {
  connection
    .prepare(`
      INSERT INTO spend VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (day, chain, lane) DO UPDATE SET
        answers = answers + excluded.answers, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens, output_tokens = output_tokens + excluded.output_tokens,
        thought_tokens = thought_tokens + excluded.thought_tokens, tool_tokens = tool_tokens + excluded.tool_tokens,
        audio_tokens = audio_tokens + excluded.audio_tokens, image_tokens = image_tokens + excluded.image_tokens,
        usd = usd + excluded.usd, standard_usd = standard_usd + excluded.standard_usd, unpriced = unpriced + excluded.unpriced`)
    .run(
      change.day,
      change.chain,
      change.lane,
      change.answers,
      change.promptTokens,
      change.cachedTokens,
      change.outputTokens,
      change.thoughtTokens,
      change.toolTokens,
      change.audioTokens,
      change.imageTokens,
      change.usd,
      change.standardUsd,
      change.unpriced,
    );
}
