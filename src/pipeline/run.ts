import { createContext, type ContextParts } from "../chain/create-context.ts";
import type { Definition } from "../chain/definition.ts";
import { answerText } from "../chain/requests.ts";
import { completeSubmitted, type SubmittedPrompt } from "../chain/typed-output.ts";
import { TurnLoop } from "../chain/turn-loop.ts";
import { Turn, type TurnHost } from "../chain/turn.ts";
import { excessOfRun } from "../core/budget.ts";
import { GembatchError, serializeError, type SerializedError } from "../core/errors.ts";
import type {
  BatchRecord,
  ClaimedRun,
  CommitResult,
  Entry,
  RequestResult,
  ResumedRun,
  SettledRows,
  SettleRow,
  TurnCommit,
} from "../core/store.ts";
import { CommitGroup } from "./commit-group.ts";
import { nonDeterminism } from "./non-determinism.ts";
import { type ParkedTurn, ParkedTurns } from "./parked.ts";
import { isInDoubt, isStoreAway, messageOf, type PipelineContext, type StageResult } from "./stage.ts";

export interface RunPolicy {
  /** Turns executed at once. */
  concurrency: number;
  /** Bytes for waiting turns that are kept in memory so that their next turn need not replay. A cache: losing one costs time only. */
  parkedBytes: number;
  maxTurnMs: number;
  /** Entries that one run may have. */
  maxEntries: number;
}

/** How chains get their hands, and what a handler is given. */
export interface RunParts extends ContextParts {
  /** The official SDK's response object for a stored REST response. */
  toResponse: (entryText: string, run: ClaimedRun) => Promise<unknown>;
  /** A turn was committed after the advance that began it had returned: others may have work now. */
  onLateCommit: () => void;
  /** Turns go on whose answers were settled here: an advance waits for them. */
  onResume: () => void;
  /** The run ended or was held: whoever awaits it in this process can be told at once. */
  onEnd: (run: string) => void;
}

/** How many runs one claim takes at most: as many as one commit writes. A commit costs a wait for the disk, whatever its size. */
const claimSize = 1_024;
/** When a run is tried again whose payloads cannot be read or written at the moment. */
const tryLaterMs = 60_000;
/** When runs are tried again whose histories could not be read because the store was away. */
const storeBackMs = 1_000;
/** How long a worker has found nothing of its own before it takes up what others may keep in memory. */
const patienceMs = 500;
/** How often it takes up the oldest runs in any case, whoever keeps their turns: none may wait for a busy worker while others go on for ever. */
const fairnessMs = 10_000;
const graceStepsMs = [0, 50, 500, 5_000];

/** Claims runnable runs, executes their turns side by side, commits them in groups. */
export class RunStage {
  readonly #context: PipelineContext;
  readonly #policy: RunPolicy;
  readonly #parts: RunParts;
  readonly #loop: TurnLoop;
  readonly #commits: CommitGroup;
  readonly #host: TurnHost;
  readonly #active = new Map<Turn, Promise<void>>();
  readonly #parked: ParkedTurns;
  /** Turns that went on by themselves since the last advance. */
  #resumed: Promise<void>[] = [];
  /** Turns that may begin in a moment: of claims and settlements that are under way. */
  #expected = 0;
  /** Since when this worker looks for runs of its own in vain, and when it last took up those of any; monotonic. */
  #vainSince: number | undefined;
  #claimedAnyAt = -Infinity;
  readonly #grace = new Map<string, number>();

  constructor(context: PipelineContext, policy: RunPolicy, parts: RunParts) {
    this.#context = context;
    this.#policy = policy;
    this.#parts = parts;
    const { clock } = context;
    this.#loop = new TurnLoop({ clock, maxTurnMs: policy.maxTurnMs, graceMs: (chain) => graceStepsMs[this.#grace.get(chain) ?? 0]! });
    this.#commits = new CommitGroup(context);
    this.#parked = new ParkedTurns(policy.parkedBytes, clock);
    this.#host = {
      now: () => clock.now(),
      maxEntries: policy.maxEntries,
      commit: (commit) => this.#commits.commit(commit),
      touch: (turn) => this.#loop.touch(turn),
      late: (turn) => this.#late(turn),
    };
  }

  /** Turns in hand. */
  get active(): number {
    return this.#active.size;
  }

  /**
   * Claims once and executes until the claimed turns, and those that went on by themselves, are committed; turns that run long steps or I/O go on in the background. `patient`: leaves runs whose turns
   * another worker may keep in memory to that one, for a while.
   */
  async advance({ patient = false } = {}): Promise<StageResult> {
    this.#loop.expire();
    const { clock } = this.#context;
    const now = clock.monotonic();
    const own = patient && now - (this.#vainSince ?? now) < patienceMs && now - this.#claimedAnyAt < fairnessMs;
    const started = await this.claim(own);
    if (!own) this.#claimedAnyAt = now;
    started.push(...this.#resumed.splice(0));
    if (started.length === 0 && own) {
      this.#vainSince ??= now;
      return { worked: false, wakeAt: clock.now() + patienceMs - (now - this.#vainSince) };
    }
    this.#vainSince = undefined;
    if (started.length === 0) return { worked: false };
    await this.#settled(started);
    return { worked: true };
  }

  /** Waits until every turn in hand is committed; with `limitMs`, at most that long. */
  async drain(limitMs: number): Promise<void> {
    const all = Promise.allSettled(this.#active.values());
    const abort = new AbortController();
    await Promise.race([all, this.#context.clock.sleep(limitMs, { signal: abort.signal })]);
    abort.abort();
    for (const turn of this.#active.keys()) turn.abort();
    this.#parked.clear();
    this.#resumed = [];
  }

  /** Takes up as many runs as there is room for: one promise for each, that settles when its turn is committed or the run was given back. */
  async claim(own = false): Promise<Promise<void>[]> {
    const { store, clock, worker } = this.#context;
    const limit = Math.min(claimSize, this.#room);
    const chains = this.#context.chains();
    if (limit <= 0 || chains.length === 0 || !this.#context.mayClaim()) return [];
    // Answers that are settled meanwhile must not bring turns into the same room.
    let expected = limit;
    this.#expected += expected;
    try {
      const runs = await store.claimRuns({ worker, now: clock.now(), limit, chains, own });
      this.#expected += runs.length - expected;
      expected = runs.length;
      return runs.length === 0 ? [] : await this.#takeUp(runs);
    } finally {
      this.#expected -= expected;
    }
  }

  /** Turns that may be begun besides those in hand. */
  get #room(): number {
    return this.#policy.concurrency - this.#active.size - this.#expected;
  }

  async #takeUp(runs: readonly ClaimedRun[]): Promise<Promise<void>[]> {
    const parked = runs.map((run) => this.#parked.take(run));
    const histories = await this.#histories(runs.map((run, index) => ({ run, since: parked[index]?.loaded ?? 0 })));
    return runs.flatMap((run, index) => {
      const history = histories[index];
      if (!history) return [Promise.resolve()];
      const turn = parked[index];
      return turn ? this.#execute(turn, () => turn.resume(run, history)) : this.#start(run, history);
    });
  }

  /**
   * Settles rows of a batch in hand. Turns that wait for one of them in memory go on at once, as far as there is room: that takes no claim, and no look at what is known here. `undefined`: the batch is not ours
   * any more.
   */
  async settle(
    { id: batch, epoch }: BatchRecord,
    rows: SettleRow[],
    rest: { unknown: number; cursor: number },
  ): Promise<SettledRows | undefined> {
    const { store, clock, worker, doubt } = this.#context;
    const kept = this.#keptFor(rows);
    this.#expected += kept.size;
    try {
      const marked = rows.map((row, index) => {
        const parked = kept.get(index);
        return parked === undefined ? row : { ...row, keptEpoch: parked.turn.run.epoch };
      });
      const settled = await store.settleRows({ batch, epoch, now: clock.now(), rows: marked, ...rest, ...(kept.size > 0 && { worker }) });
      if (settled?.resumed) this.#goOn(settled.resumed, rows, kept);
      return settled;
    } catch (error) {
      if (kept.size > 0 && isInDoubt(error)) doubt();
      throw error;
    } finally {
      this.#expected -= kept.size;
    }
  }

  /** Turns that are kept here and wait for one of these rows, by its index. */
  #keptFor(rows: readonly SettleRow[]): Map<number, ParkedTurn> {
    const kept = new Map<number, ParkedTurn>();
    if (!this.#context.mayClaim() || this.#context.signal.aborted) return kept;
    const room = this.#room;
    for (const [index, row] of rows.entries()) {
      if (kept.size >= room) break;
      const { type } = row.result;
      const parked = type === "succeeded" || type === "failed" ? this.#parked.awaiting(row.id) : undefined;
      if (parked === undefined) continue;
      kept.set(index, parked);
    }
    return kept;
  }

  #goOn(resumed: readonly ResumedRun[], rows: readonly SettleRow[], kept: ReadonlyMap<number, ParkedTurn>): void {
    // Who stops begins nothing: it gives back what it has in hand.
    if (this.#context.signal.aborted) return;
    const again: ClaimedRun[] = [];
    for (const { row: index, ...claim } of resumed) {
      const parked = kept.get(index)!;
      const row = rows[index]!;
      const { turn } = parked;
      const run = { ...claim, attempts: 0, code: turn.definition.code };
      const isThere = this.#parked.awaiting(row.id) === parked;
      if (isThere) this.#parked.drop(turn.run.id);
      // Whatever made the turn useless in this moment: the run itself is in hand, and begins anew.
      if (isThere && run.seq === parked.seq + 1) this.#resumed.push(this.#execute(turn, () => turn.answer(run, answerOf(row.result))));
      else again.push({ ...turn.run, ...run });
    }
    if (again.length > 0) this.#resumed.push(this.#beginAgain(again));
    this.#parts.onResume();
  }

  async #beginAgain(runs: readonly ClaimedRun[]): Promise<void> {
    let executions: Promise<void>[] = [];
    this.#expected += runs.length;
    try {
      executions = await this.#takeUp(runs);
    } catch (error) {
      this.#context.log.error(`${runs.length} runs in hand could not be taken up, and are given up: ${messageOf(error)}`);
      this.#context.doubt();
    } finally {
      this.#expected -= runs.length;
    }
    await Promise.all(executions);
  }

  /** The histories of claimed runs; a run whose own cannot be had goes back, to be tried again later. */
  async #histories(claims: readonly { run: ClaimedRun; since: number }[]): Promise<(Entry[] | undefined)[]> {
    const { store, log } = this.#context;
    const load = async (some: typeof claims) => store.loadHistory({ runs: some.map(({ run, since }) => ({ run: run.id, since })) });
    try {
      return await load(claims);
    } catch (error) {
      if (isStoreAway(error)) {
        // Nothing is wrong with any of the runs: all are claimed anew as soon as the store is back, which the commit that gives them back waits for.
        log.error(`The histories of ${claims.length} runs cannot be read and are tried again: ${error.message}`);
        return Promise.all(claims.map(async ({ run }) => this.#giveBack(run, error, storeBackMs)));
      }
      return Promise.all(
        claims.map(async (claim) => {
          try {
            return (await load([claim]))[0];
          } catch (error) {
            log.error(`Run ${claim.run.id}: its history cannot be read: ${messageOf(error)}`, { run: claim.run.id });
            return this.#giveBack(claim.run, error, tryLaterMs);
          }
        }),
      );
    }
  }

  async #giveBack({ id, epoch, seq, code }: ClaimedRun, thrown: unknown, delayMs: number): Promise<undefined> {
    const outcome = this.#tryLater(serializeError(thrown, "store_unavailable"), delayMs);
    await this.#commits.commit({ run: id, epoch, seen: seq, firstNo: 0, entries: [], starts: [], code, notes: [], outcome });
  }

  #tryLater(error: SerializedError, delayMs = tryLaterMs) {
    return { type: "retry", at: this.#context.clock.now() + delayMs, error } as const;
  }

  /** All of these are committed, or the rest of them is busy with steps and I/O of its own. */
  async #settled(executions: readonly Promise<void>[]): Promise<void> {
    let open = executions.length;
    let left = false;
    await new Promise<void>((resolve) => {
      const look = () => {
        if (open > this.#loop.restingCount) return;
        left = true;
        stopListening();
        resolve();
      };
      const stopListening = this.#loop.onRest(look);
      for (const execution of executions) {
        void execution.then(() => {
          open -= 1;
          if (left) this.#parts.onLateCommit();
          else look();
        });
      }
      look();
    });
  }

  #start(run: ClaimedRun, history: readonly Entry[]): Promise<void> {
    const definition = this.#parts.registry.get(run.chain);
    if (!definition) return Promise.resolve();
    let turn: Turn;
    try {
      turn = new Turn(run, definition, history, this.#host);
    } catch (error) {
      this.#logFailure(run, error);
      return Promise.resolve();
    }
    return this.#execute(turn, () => turn.start(() => this.#call(turn, definition)));
  }

  /** Until the turn is committed; never rejects. */
  #execute(turn: Turn, begin: () => void): Promise<void> {
    const execution = this.#toItsEnd(turn, begin).finally(() => this.#active.delete(turn));
    this.#active.set(turn, execution);
    return execution;
  }

  async #toItsEnd(turn: Turn, begin: () => void): Promise<void> {
    try {
      const over = this.#loop.add(turn);
      begin();
      await this.#commit(turn, await over);
    } catch (error) {
      this.#logFailure(turn.run, error);
    }
  }

  #logFailure({ id }: ClaimedRun, error: unknown): void {
    this.#context.log.error(`Run ${id}: its turn could not be committed: ${String(error)}`, { run: id });
  }

  async #commit(turn: Turn, error: GembatchError | undefined): Promise<void> {
    const concluded = error ? turn.fail(error) : this.#conclude(turn);
    const commit = concluded instanceof Promise ? await concluded : concluded;
    let result: CommitResult;
    try {
      result = await this.#commits.commit(commit);
    } catch (thrown) {
      // What the store refuses, it would refuse for ever: the run fails with the reason instead of hanging. A store, a codec or a payload store may only be away.
      const refusal = serializeError(thrown, "run_failed");
      const outcome = isAway(thrown) ? this.#tryLater(refusal) : ({ type: "failed", error: refusal } as const);
      result = await this.#commits.commit({ ...commit, entries: [], starts: [], outcome });
    }
    turn.committed(result);
    if (result.state === "waiting" || (result.state === "runnable" && !turn.settled)) this.#parked.park(turn, result);
    if (result.state !== "lost" && result.state !== "waiting" && result.state !== "runnable") this.#parts.onEnd(turn.run.id);
  }

  /** The turn's own result, unless its code disagrees with its history. */
  #conclude(turn: Turn): TurnCommit | Promise<TurnCommit> {
    const divergence = turn.settled ? undefined : turn.divergence();
    const excess = divergence || turn.settled ? undefined : excessOfRun(this.#context.money.budgets, turn.run, turn.newRequests);
    if (excess) {
      this.#context.log.warn(excess.message, { run: turn.run.id, chain: turn.run.chain });
      return { ...turn.hold(), outcome: { type: "held", error: serializeError(excess, "budget_exceeded") } };
    }
    if (!divergence) return turn.finish();
    if (turn.deployed) {
      const { run } = turn;
      turn.note(
        `New code of "${run.chain}" asks for ${divergence.added.length} prompts that history does not have and leaves ${divergence.unasked.length} unused.`,
      );
      return turn.finish();
    }
    return this.#holdAsDiverged(turn, divergence);
  }

  async #holdAsDiverged(turn: Turn, divergence: NonNullable<ReturnType<Turn["divergence"]>>): Promise<TurnCommit> {
    const { run } = turn;
    const commit = turn.hold();
    const recorded = await this.#context.store.listRequests({ run: run.id, limit: 1_000 });
    const error = nonDeterminism(run, divergence, new Map(recorded.items.map(({ key, body }) => [key, body])));
    this.#context.log.error(error.message, { run: run.id, chain: run.chain });
    return { ...commit, outcome: { type: "held", error } };
  }

  async #call(turn: Turn, definition: Definition): Promise<unknown> {
    const context = createContext(turn, this.#parts);
    const input: unknown = JSON.parse(turn.run.input);
    const fn = definition.fn as unknown as (...args: unknown[]) => unknown;
    if (definition.kind === "chain") return fn(context, input);
    const first = await turn.firstRequest();
    const response = await this.#parts.toResponse(answerText(first), turn.run);
    if (!definition.typed) return fn(response, input, context);
    return fn(
      await completeSubmitted(response, definition.typed, context.models, () => this.#promptOf(turn.run, first.key)),
      input,
      context,
    );
  }

  /** What a submitted prompt asked: a history holds answers only. */
  async #promptOf(run: ClaimedRun, key: string): Promise<SubmittedPrompt> {
    for (let cursor: string | undefined; ;) {
      const page = await this.#context.store.listRequests({ run: run.id, limit: 1_000, ...(cursor === undefined ? {} : { cursor }) });
      const found = page.items.find((request) => request.key === key);
      if (found) return { model: found.lane.model, provider: found.lane.provider, body: found.body as SubmittedPrompt["body"] };
      if (page.nextCursor === undefined) throw new GembatchError("store_corrupt", `Run ${run.id} has lost its request.`);
      cursor = page.nextCursor;
    }
  }

  /** A call came after its turn was over: the run gets another turn, its chain a longer grace from now on. */
  #late(turn: Turn): void {
    const { id, chain, epoch } = turn.run;
    this.#parked.drop(id);
    const step = this.#grace.get(chain) ?? 0;
    if (step === 0) {
      this.#context.log.warn(
        `Chain "${chain}" went on after its turn was over: it awaits I/O outside of step(). Nothing is lost, but its turns wait longer from now on.`,
        {
          chain,
          run: id,
        },
      );
    }
    this.#grace.set(chain, Math.min(graceStepsMs.length - 1, step + 1));
    void this.#context.store.wakeRuns({ now: this.#context.clock.now(), runs: [{ run: id, epoch }] }).catch(() => {
      // The store is closing or gone; the run is found as it is next time.
    });
  }
}

function answerOf(result: RequestResult): Pick<Entry, "value" | "error"> {
  return { value: "value" in result ? result.value : undefined, error: result.type === "failed" ? result.error : undefined };
}

function isAway(thrown: unknown): boolean {
  return (
    GembatchError.is(thrown) &&
    (thrown.code.startsWith("store_") || thrown.code === "codec_failed" || thrown.code === "payload_unavailable")
  );
}
