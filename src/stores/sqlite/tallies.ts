import { noUsage, type Usage } from "../../core/usage.ts";
import type { Connection } from "./connection.ts";
import type { Bill } from "../money.ts";

/** More than every number above. */
const NUMBERS = 31;

/** What a request weighs in the counters of its lane. */
export interface Weight {
  bytes: number;
  tokens: number;
  /** Picodollars; null if the model's price is unknown. */
  estimate: number | null;
}

interface LaneChange {
  queued: number;
  bytes: number;
  tokens: number;
  usd: number;
  unpriced: number;
  delayed: number;
  isolated: number;
}

interface SpendChange extends Usage, Bill {
  day: number;
  chain: number;
  lane: number;
  answers: number;
}

/**
 * What a transaction changes in the counters, added up in memory and written once at its end: a thousand settled rows
 * cost one update of what they spent.
 */
export class Tallies {
  readonly #counts = new Float64Array(NUMBERS);
  readonly #lanes = new Map<number, LaneChange>();
  readonly #spend: SpendChange[] = [];

  /** `count` rows of this machine moved from one state code (`undefined`: they are new) to another (`undefined`: they are gone). */
  move(base: number, from: number | undefined, to: number | undefined, count = 1): void {
    if (from === to) return;
    if (from !== undefined) this.add(base + from, -count);
    if (to !== undefined) this.add(base + to, count);
  }

  add(no: number, count: number): void {
    this.#counts[no] = (this.#counts[no] ?? 0) + count;
  }

  /** `sign` +1: a request that may be sent joined its lane's queue; -1: it left. */
  queue(lane: number, sign: 1 | -1, { bytes, tokens, estimate }: Weight): void {
    const change = this.#lane(lane);
    change.queued += sign;
    change.bytes += sign * bytes;
    change.tokens += sign * tokens;
    if (estimate === null) change.unpriced += sign;
    else change.usd += sign * estimate;
  }

  delay(lane: number, sign: 1 | -1): void {
    this.#lane(lane).delayed += sign;
  }

  /** Adds to counters of a lane. */
  change(lane: number, changes: Partial<LaneChange>): void {
    const change = this.#lane(lane);
    for (const [name, by] of Object.entries(changes)) change[name as keyof LaneChange] += by;
  }

  /** An answer that came at `now`, for a run of this chain, by this lane. */
  answer(now: number, chain: number, lane: number, usage: Usage, bill: Bill): void {
    const day = Math.floor(now / 86_400_000);
    let change = this.#spend.at(-1);
    if (change?.chain !== chain || change.lane !== lane || change.day !== day) {
      change = this.#spend.find((item) => item.chain === chain && item.lane === lane && item.day === day);
    }
    if (change === undefined) {
      change = { day, chain, lane, answers: 0, ...noUsage, usd: 0, standardUsd: 0, unpriced: 0 };
      this.#spend.push(change);
    }
    change.answers += 1;
    change.promptTokens += usage.promptTokens;
    change.cachedTokens += usage.cachedTokens;
    change.outputTokens += usage.outputTokens;
    change.thoughtTokens += usage.thoughtTokens;
    change.toolTokens += usage.toolTokens;
    change.audioTokens += usage.audioTokens;
    change.imageTokens += usage.imageTokens;
    change.usd += bill.usd;
    change.standardUsd += bill.standardUsd;
    change.unpriced += bill.unpriced;
  }

  flush(connection: Connection): void {
    const update = connection.prepare(`
      INSERT INTO tallies (no, count) VALUES (?, ?) ON CONFLICT (no) DO UPDATE SET count = count + excluded.count`);
    for (const [no, delta] of this.#counts.entries()) if (delta !== 0) update.run(no, delta);
    if (this.#lanes.size > 0) {
      const update = connection.prepare(`
        UPDATE lanes SET
          queued = queued + ?, bytes = bytes + ?, tokens = tokens + ?, usd = usd + ?, unpriced = unpriced + ?, delayed = delayed + ?,
          isolated = isolated + ?
        WHERE no = ?`);
      for (const [no, { queued, bytes, tokens, usd, unpriced, delayed, isolated }] of this.#lanes) {
        update.run(queued, bytes, tokens, usd, unpriced, delayed, isolated, no);
      }
    }
    for (const change of this.#spend) addSpend(connection, change);
    this.clear();
  }

  clear(): void {
    this.#counts.fill(0);
    this.#lanes.clear();
    this.#spend.length = 0;
  }

  #lane(no: number): LaneChange {
    let change = this.#lanes.get(no);
    if (change === undefined) {
      change = { queued: 0, bytes: 0, tokens: 0, usd: 0, unpriced: 0, delayed: 0, isolated: 0 };
      this.#lanes.set(no, change);
    }
    return change;
  }
}

function addSpend(connection: Connection, change: SpendChange): void {
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
