import type { Usage } from "../../core/usage.ts";
import type { Connection } from "./connection.ts";

/** Where each state machine's counts begin in `tallies`: number = base + state code. */
export const RUNS = 0;
export const REQUESTS = 10;
export const BATCHES = 20;

interface LaneChange {
  queued: number;
  bytes: number;
  tokens: number;
  delayed: number;
  answers: number;
  usage: Usage;
}

/**
 * What a transaction changes in the counters, added up in memory and written once at its end: a thousand settled rows
 * cost one update of their lane.
 */
export class Tallies {
  readonly #counts = new Map<number, number>();
  readonly #lanes = new Map<number, LaneChange>();

  /** One row of this machine moved from one state code (`undefined`: it is new) to another. */
  move(base: number, from: number | undefined, to: number): void {
    if (from === to) return;
    if (from !== undefined) this.#counts.set(base + from, (this.#counts.get(base + from) ?? 0) - 1);
    this.#counts.set(base + to, (this.#counts.get(base + to) ?? 0) + 1);
  }

  /** `sign` +1: a request that may be sent joined its lane's queue; -1: it left. */
  queue(lane: number, sign: 1 | -1, bytes: number, tokens: number): void {
    const change = this.#lane(lane);
    change.queued += sign;
    change.bytes += sign * bytes;
    change.tokens += sign * tokens;
  }

  delay(lane: number, sign: 1 | -1): void {
    this.#lane(lane).delayed += sign;
  }

  answer(lane: number, usage: Usage): void {
    const change = this.#lane(lane);
    change.answers += 1;
    change.usage.promptTokens += usage.promptTokens;
    change.usage.cachedTokens += usage.cachedTokens;
    change.usage.outputTokens += usage.outputTokens;
    change.usage.thoughtTokens += usage.thoughtTokens;
    change.usage.toolTokens += usage.toolTokens;
  }

  flush(connection: Connection): void {
    if (this.#counts.size > 0) {
      const update = connection.prepare(`
        INSERT INTO tallies (no, count) VALUES (?, ?)
        ON CONFLICT (no) DO UPDATE SET count = count + excluded.count`);
      for (const [no, delta] of this.#counts) if (delta !== 0) update.run(no, delta);
    }
    if (this.#lanes.size > 0) {
      const update = connection.prepare(`
        UPDATE lanes SET
          queued = queued + ?, bytes = bytes + ?, tokens = tokens + ?, delayed = delayed + ?, answers = answers + ?,
          prompt_tokens = prompt_tokens + ?, cached_tokens = cached_tokens + ?, output_tokens = output_tokens + ?,
          thought_tokens = thought_tokens + ?, tool_tokens = tool_tokens + ?
        WHERE no = ?`);
      for (const [no, { queued, bytes, tokens, delayed, answers, usage }] of this.#lanes) {
        update.run(
          queued,
          bytes,
          tokens,
          delayed,
          answers,
          usage.promptTokens,
          usage.cachedTokens,
          usage.outputTokens,
          usage.thoughtTokens,
          usage.toolTokens,
          no,
        );
      }
    }
    this.clear();
  }

  clear(): void {
    this.#counts.clear();
    this.#lanes.clear();
  }

  #lane(no: number): LaneChange {
    let change = this.#lanes.get(no);
    if (change === undefined) {
      const usage = { promptTokens: 0, cachedTokens: 0, outputTokens: 0, thoughtTokens: 0, toolTokens: 0 };
      change = { queued: 0, bytes: 0, tokens: 0, delayed: 0, answers: 0, usage };
      this.#lanes.set(no, change);
    }
    return change;
  }
}
