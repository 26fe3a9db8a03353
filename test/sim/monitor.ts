/**
 * Watches the one store that all processes share, call by call, and knows what must never happen.
 *
 * @module
 */
import { jobToken, parseRowKey } from "../../src/core/keys.ts";
import type { DirectCall } from "../../src/core/provider.ts";
import type {
  BatchRecord,
  ClaimedRun,
  CommitResult,
  DeadlineDecision,
  Entry,
  MemberRow,
  SettledRows,
  Store,
  StoreParams,
  TurnCommit,
} from "../../src/core/store.ts";
import type { Interceptor, PortCall } from "../../src/testing/intercept.ts";
import { DirectCalls, type Asked } from "./direct-calls.ts";
import type { ServiceJob } from "./service.ts";
import { Violation } from "./violation.ts";

interface Claim {
  epoch: number;
  /** Who has it in hand; nobody after it was given back. */
  worker: string | undefined;
}

export class Monitor implements Interceptor {
  readonly #store: Store;
  readonly #fail: (violation: Violation) => void;
  readonly #leases = new Map<string, number>();
  readonly #runs = new Map<string, Claim>();
  readonly #batches = new Map<string, Claim>();
  readonly #ended = new Set<string>();
  /** What each entry of each run was answered, and with which number. */
  readonly #answers = new Map<string, string>();
  readonly #sentRows = new Map<string, string>();
  readonly #tokens = new Map<string, string>();
  readonly #direct: DirectCalls;
  /** Runs by the request that their kept turn awaits. */
  readonly #awaiting = new Map<string, string>();
  /** Turns that were committed and refused, and runs that went on without a claim. */
  turns = 0;
  lost = 0;
  resumed = 0;
  duplicateJobs = 0;

  constructor(store: Store, fail: (violation: Violation) => void) {
    this.#store = store;
    this.#fail = fail;
    this.#direct = new DirectCalls(store, (batch) => this.#batches.get(batch)?.epoch);
  }

  async call<T>(call: PortCall, perform: () => Promise<T>): Promise<T> {
    const result = await perform();
    try {
      await this.#observe(call.method, call.args[0] as never, result as never);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#fail(error);
    }
    return result;
  }

  stream<T>(_call: PortCall, open: () => AsyncIterable<T>): AsyncIterable<T> {
    return open();
  }

  /** Nobody else does anything before it is done: it asks the store alone. */
  async #observe(method: string, params: never, result: never): Promise<void> {
    switch (method) {
      case "heartbeat":
        return this.#heartbeat(params);
      case "leave":
        this.#leases.delete((params as { worker: string }).worker);
        this.#freeClaims();
        return;
      case "claimRuns":
        for (const run of result as ClaimedRun[]) this.#claim("run", this.#runs, run.id, run.epoch, params);
        return;
      case "commitTurns":
        return this.#commitTurns(params, result);
      case "loadHistory":
        return this.#loadHistory(params, result);
      case "retryRuns":
        for (const id of result as string[]) this.#ended.delete(id);
        return;
      case "formBatch":
        return this.#formBatch(params, result);
      case "claimBatches":
        for (const batch of result as BatchRecord[]) this.#claim("batch", this.#batches, batch.id, batch.epoch, params);
        return;
      case "updateBatch": {
        const { batch, epoch, update } = params as { batch: string; epoch: number; update: { release?: boolean } };
        if (result === true) this.#changed(batch, epoch, update.release ?? true);
        return;
      }
      case "settleRows":
        return this.#settleRows(params, result);
      case "settleRemaining": {
        const { batch, epoch } = params as { batch: string; epoch: number };
        if (result !== undefined) this.#changed(batch, epoch, false);
        return;
      }
      case "readMembers":
        return this.#direct.members((params as { batch: string }).batch, result as MemberRow[]);
      case "decideDeadlines":
        return this.#direct.decided((params as { decisions: DeadlineDecision[] }).decisions);
      default:
    }
  }

  #heartbeat({ worker, now, leaseMs }: { worker: { id: string }; now: number; leaseMs: number }): void {
    this.#leases.set(worker.id, now + leaseMs);
    // By this clock, right or wrong, they are dead: what they held is given up.
    for (const [id, until] of this.#leases) if (until <= now) this.#leases.delete(id);
    this.#freeClaims();
  }

  /** What was in the hand of a worker without a lease is in nobody's; such a worker may come back. */
  #freeClaims(): void {
    for (const claim of [...this.#runs.values(), ...this.#batches.values()]) {
      if (claim.worker !== undefined && !this.#leases.has(claim.worker)) claim.worker = undefined;
    }
  }

  #claim(what: string, claims: Map<string, Claim>, id: string, epoch: number, { worker, now }: { worker: string; now: number }): void {
    const before = claims.get(id);
    if (before) {
      if (epoch <= before.epoch) throw new Violation("epochs grow", `${what} ${id} was claimed with epoch ${epoch} after ${before.epoch}`);
      const holder = before.worker;
      if (holder !== undefined && holder !== worker && (this.#leases.get(holder) ?? 0) > now) {
        throw new Violation("a claim holds while its lease does", `${what} ${id} was taken from ${holder}, which is alive, by ${worker}`);
      }
    }
    claims.set(id, { epoch, worker });
  }

  #commitTurns({ worker, turns }: { worker: string; turns: TurnCommit[] }, results: CommitResult[]): void {
    for (const [index, turn] of turns.entries()) {
      const result = results[index];
      if (result === undefined || result.state === "lost") {
        this.lost += 1;
        continue;
      }
      this.turns += 1;
      if ("request" in result && result.request !== undefined) this.#awaiting.set(result.request, turn.run);
      const claim = this.#runs.get(turn.run);
      if (claim?.epoch !== turn.epoch || claim.worker !== worker) {
        const now = `it is in hand of ${claim?.worker} under epoch ${claim?.epoch}`;
        throw new Violation(
          "a stale commit changes nothing",
          `run ${turn.run} took a turn of ${worker} under epoch ${turn.epoch}, but ${now}`,
        );
      }
      if (result.state === "running") continue;
      claim.worker = undefined;
      if (result.state !== "completed" && result.state !== "failed") continue;
      if (this.#ended.has(turn.run)) throw new Violation("a run ends once", `run ${turn.run} ended again`);
      this.#ended.add(turn.run);
    }
  }

  #settleRows({ batch, epoch, rows, worker, now }: StoreParams<"settleRows">, settled: SettledRows | undefined): void {
    if (settled === undefined) return;
    this.#changed(batch, epoch, false);
    for (const { row, epoch } of settled.resumed ?? []) {
      const request = rows[row]?.id ?? "";
      const run = this.#awaiting.get(request);
      if (run === undefined || worker === undefined) {
        throw new Violation("only a kept turn is resumed", `request ${request} resumed run ${run} for ${worker}`);
      }
      this.resumed += 1;
      this.#claim("run", this.#runs, run, epoch, { worker, now });
    }
  }

  #loadHistory({ runs }: { runs: { run: string }[] }, histories: Entry[][]): void {
    for (const [index, { run }] of runs.entries()) {
      for (const { key, seq, value, error } of histories[index] ?? []) {
        // What failed is open again when an operator retries its run.
        if (seq === undefined || error !== undefined) continue;
        const answer = `${seq} ${value}`;
        const before = this.#answers.get(`${run}\n${key}`);
        if (before !== undefined && before !== answer) {
          throw new Violation(
            "an answer never changes",
            `entry ${key} of run ${run} was ${before.slice(0, 200)} and is ${answer.slice(0, 200)}`,
          );
        }
        this.#answers.set(`${run}\n${key}`, answer);
      }
    }
  }

  #formBatch({ worker }: { worker: string }, batch: BatchRecord | undefined): void {
    if (batch) this.#batches.set(batch.id, { epoch: batch.epoch, worker: batch.state === "forming" ? worker : undefined });
  }

  #changed(batch: string, epoch: number, released: boolean): void {
    const claim = this.#batches.get(batch);
    if (!claim) return;
    if (epoch < claim.epoch) {
      throw new Violation("a stale worker changes nothing", `batch ${batch} was changed under epoch ${epoch}, it is at ${claim.epoch}`);
    }
    if (released) claim.worker = undefined;
  }

  // What reaches the provider ------------------------------------------------------------------------------------------------

  get directCalls(): number {
    return this.#direct.calls;
  }

  get moved(): number {
    return this.#direct.moved;
  }

  /** Who calls says at the end whether that failed. */
  async called(call: DirectCall): Promise<Asked> {
    try {
      return await this.#direct.called(call);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#fail(error);
      return { failed: true };
    }
  }

  /** `residue`: the provider hides jobs for longer than anybody waits, so that a second job is allowed, but not a second answer. */
  async jobCreated(job: ServiceJob, residue: boolean): Promise<void> {
    try {
      await this.#jobCreated(job, residue);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#fail(error);
    }
  }

  async #jobCreated(job: ServiceJob, residue: boolean): Promise<void> {
    const first = this.#tokens.get(job.token);
    this.#tokens.set(job.token, job.name);
    if (first !== undefined) {
      this.duplicateJobs += 1;
      if (!residue) throw new Violation("one job for a batch", `${first} and ${job.name} are both ${job.token}`);
    }
    for (const { key, body } of job.rows) {
      const other = this.#sentRows.get(key);
      this.#sentRows.set(key, job.token);
      if (other !== undefined && other !== job.token)
        throw new Violation("one job for a prompt", `row ${key} is in jobs of ${other} and ${job.token}`);
      const named = parseRowKey(key);
      const request = named === undefined ? undefined : await this.#store.getRequest({ id: named.id });
      if (!named || !request) throw new Violation("only what was committed is sent", `row ${key} of ${job.name} is no request`);
      if (JSON.stringify(request.body) !== JSON.stringify(JSON.parse(body))) {
        throw new Violation("only what was committed is sent", `row ${key} of ${job.name} has another text than its request`);
      }
      if (other === undefined) await this.#direct.asked(named, body);
      // What a deadline took out of a batch that was uploaded travels all the same.
      if (this.#direct.isMoved(named)) continue;
      if (request.state !== "batched" || request.attempt !== named.attempt || jobToken(this.#store.id, request.batch ?? "") !== job.token) {
        const now = `${request.state}, attempt ${request.attempt}, batch ${request.batch}`;
        throw new Violation("only members of a batch are sent", `row ${key} of ${job.name} (${job.token}) is ${now}`);
      }
    }
  }
}
