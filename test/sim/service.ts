/**
 * The other side of the provider, in true time: keeps uploads and jobs, whatever becomes of the processes that asked for them.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { parseRowKey } from "../../src/core/keys.ts";
import type { BatchRow, JobState, Lane, ResultRow } from "../../src/core/provider.ts";
import { promptText, textResponse } from "../../src/testing/steerable-provider.ts";
import type { ProviderPlan } from "./plan.ts";
import type { World } from "./world.ts";

export interface ServiceJob {
  name: string;
  token: string;
  lane: Lane;
  rows: readonly BatchRow[];
  createdAt: number;
  visibleAt: number;
  hidden: boolean;
  endsAt: number;
  end: JobState | "removed";
  /** When the output of a job that succeeded can be read. */
  outputAt: number;
  /** What every download of it gives. */
  lines: readonly ResultRow[];
  cancelled: boolean;
  deleted: boolean;
  /** When a list first showed it as running, and whether anybody asked for its end. */
  seenRunningAt: number | undefined;
  cancelAsked: boolean;
}

/** What the model says: the same to the same prompt. */
export function answerTo(prompt: string): string {
  return createHash("sha256").update(prompt).digest("base64url").slice(0, 10);
}

/** A prompt that the model refuses for ever. */
export const refusedWord = "[refused]";

export class Service {
  readonly jobs: ServiceJob[] = [];
  readonly uploads = new Map<string, readonly BatchRow[]>();
  readonly #world: World;
  readonly #plan: () => ProviderPlan;
  readonly #onCreate: (job: ServiceJob) => void;
  #uploads = 0;

  /** `plan` is asked at every draw, so that faults can stop. */
  constructor(world: World, plan: () => ProviderPlan, onCreate: (job: ServiceJob) => void) {
    this.#world = world;
    this.#plan = plan;
    this.#onCreate = onCreate;
  }

  upload(rows: readonly BatchRow[]): string {
    this.#uploads += 1;
    const ref = `files/${this.#uploads}`;
    this.uploads.set(ref, rows);
    return ref;
  }

  /** `hidden`: the list does not show it before 200 s, and for up to 20 h. Half of such jobs run on until somebody can see them. */
  create(token: string, lane: Lane, rows: readonly BatchRow[], hidden: boolean): ServiceJob {
    const { now } = this.#world;
    const plan = this.#plan();
    const [shortest, longest] = plan.turnaroundMs;
    const visibleAt = now + Math.round(hidden ? 200_000 * 360 ** this.#draw() : plan.listLagMs * this.#draw());
    const endsAt =
      hidden && this.#draw() < 0.5
        ? visibleAt + Math.round(1_800_000 * this.#draw())
        : now + Math.round(shortest + (longest - shortest) * this.#draw());
    const fresh = rows.every(({ key }) => attemptOf(key) <= 2);
    const fails = fresh && this.#draw() < plan.jobFails;
    const job: ServiceJob = {
      name: `batches/${this.jobs.length + 1}`,
      token,
      lane,
      rows,
      createdAt: now,
      visibleAt,
      hidden,
      endsAt,
      end: fails ? this.#one<ServiceJob["end"]>("failed", "expired", "cancelled", "removed") : "succeeded",
      outputAt: endsAt + (this.#draw() < plan.lateOutput ? Math.round(600_000 * this.#draw()) : 0),
      lines: [],
      cancelled: false,
      deleted: false,
      seenRunningAt: undefined,
      cancelAsked: false,
    };
    job.lines = this.#linesOf(job, plan);
    this.jobs.push(job);
    this.#onCreate(job);
    return job;
  }

  stateOf(job: ServiceJob): JobState {
    if (job.cancelled) return "cancelled";
    if (this.#world.now < job.endsAt || job.end === "removed") return "running";
    return job.end;
  }

  /** Looks at a job by its name. Only then one that is to be removed is: before, nobody could tell it from a job that was never created. */
  get(name: string): ServiceJob | undefined {
    const job = this.jobs.find((job) => job.name === name);
    if (job?.end === "removed" && this.#world.now >= job.endsAt) job.deleted = true;
    return job?.deleted === false ? job : undefined;
  }

  /** The answer to a direct call. */
  answer(lane: Lane, body: string): unknown {
    const prompt = promptText(body);
    if (lane.method === "embedContent") return { embedding: { values: [prompt.length, 1, 0] } };
    return textResponse(answerTo(prompt));
  }

  #linesOf(job: ServiceJob, plan: ProviderPlan): ResultRow[] {
    const lines: ResultRow[] = [];
    for (const row of job.rows) {
      const line = this.#lineOf(row, job.lane, plan);
      if (line) lines.splice(Math.floor(this.#draw() * (lines.length + 1)), 0, line);
    }
    // What is added never comes before the line that it copies.
    const answered = new Set(lines.map(({ key }) => key));
    for (const row of job.rows) if (answered.has(row.key) && this.#draw() < plan.strangeRows) lines.push(this.#strangeLine(row));
    return lines;
  }

  #lineOf({ key, body }: BatchRow, lane: Lane, plan: ProviderPlan): ResultRow | undefined {
    const prompt = promptText(body);
    const attempt = attemptOf(key);
    if (prompt.includes(refusedWord)) return { key, error: { code: 3, message: "refused" } };
    if (attempt <= 2 && this.#draw() < plan.badRow) {
      switch (this.#one("missing", "null", "garbage", "error")) {
        case "missing":
          return undefined;
        case "null":
          return { key, response: null };
        case "garbage":
          return { key: undefined, problem: "it is not JSON" };
        default:
          return { key, error: { code: 13, message: "internal" } };
      }
    }
    return { key, response: this.answer(lane, body) };
  }

  /** A line that must change nothing, with a text that nobody may ever see. */
  #strangeLine({ key }: BatchRow): ResultRow {
    const named = parseRowKey(key);
    const response = textResponse("must not be delivered");
    switch (this.#one("duplicate", "attempt", "other", "nobody")) {
      case "attempt":
        return { key: `r${named?.id}.${(named?.attempt ?? 1) + this.#one(-1, 1)}`, response };
      case "other": {
        const other = this.#one(...this.jobs.flatMap((job) => job.rows), { key, body: "" });
        return { key: other.key, response };
      }
      case "nobody":
        return { key: this.#one("", "r", "x1.1", "r999999999.1"), response };
      default:
        return { key, response };
    }
  }

  #draw(): number {
    return this.#world.random.next();
  }

  #one<T>(...values: T[]): T {
    return values[Math.floor(this.#draw() * values.length)] as T;
  }
}

function attemptOf(key: string): number {
  return parseRowKey(key)?.attempt ?? 1;
}
