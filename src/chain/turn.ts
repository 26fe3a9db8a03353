import { GembatchError, serializeError, type SerializedError } from "../core/errors.ts";
import { digest, toJson } from "../core/json.ts";
import type { ClaimedRun, CommitResult, Entry, EntryKind, NewEntry, NewRequest, NewRun, TurnCommit, TurnOutcome } from "../core/store.ts";
import type { OnChange } from "./context.ts";
import type { Definition } from "./definition.ts";
import { History } from "./history.ts";
import { entryValue, never } from "./entry-value.ts";
import { turnStorage } from "./turn-scope.ts";

/** What a turn needs from its worker. */
export interface TurnHost {
  /** Wall clock. */
  now(): number;
  /** Entries that one run may have. */
  maxEntries: number;
  /** Commits step results under the running claim. */
  commit(commit: TurnCommit): Promise<CommitResult>;
  /** Puts the turn back into the rounds after it was idle. */
  touch(turn: Turn): void;
  /** The code did something after its turn was over. */
  late(turn: Turn): void;
}

/** How a turn stands after one round. */
export type TurnVerdict =
  | "going"
  /** Executes a step or awaits I/O of its own; a call or its end brings it back. */
  | "idle"
  /** Settled, or nothing is left but waits. */
  | "over";

interface OpenWait {
  resolve: (entry: Entry) => void;
}

/** What an empty waiting turn takes, measured. */
const baseWeight = 6_000;

/** Rounds (macrotasks) without a new call after which a turn with open waits is over. */
const quietRounds = 2;

/**
 * One execution of a run's code between two waits. Calls that have a recorded result get it, in the order of recording and one per round;
 * calls that have none are registered and never settle. A turn that is over may be resumed with new results as long as its claim
 * history has no gap; otherwise it is dropped and the run is replayed.
 */
export class Turn {
  readonly run: ClaimedRun;
  readonly definition: Definition;
  readonly #host: TurnHost;
  readonly #history: History;
  readonly #open = new Map<string, OpenWait>();
  /** Latest first once sorted: the earliest settlement is released next. */
  readonly #releases: { entry: Entry; wait: OpenWait }[] = [];
  #releasesSorted = true;
  #notes: Set<string> | undefined;
  #entries: NewEntry[] = [];
  #starts: NewRun[] = [];
  /** Recorded results that are still to be given back. */
  #replayed: number;
  #steps = 0;
  #calls = 0;
  #callsAtRound = -1;
  #quiet = 0;
  #randoms = 0;
  #shared: Map<string, Promise<Entry>> | undefined;
  #result: { value: unknown } | { error: unknown } | undefined;
  /** Prompts and waits that the code asked for after it had returned. */
  #afterEnd = 0;
  /** An edited prompt was asked anew on purpose: what follows it may differ from history. */
  #redone = false;
  /** Characters of all answers that the code was given. */
  #handedOut = 0;
  #over = false;
  #lost = false;
  #abort: AbortController | undefined;
  /** Whether the longer wait before judging a divergence was granted. */
  graceUsed = false;
  /** This is the first turn under other code than the one that recorded the history. */
  readonly deployed: boolean;
  /** Remembers that with the first commit, whatever it carries. */
  #marker: NewEntry | undefined;

  constructor(run: ClaimedRun, definition: Definition, history: readonly Entry[], host: TurnHost) {
    this.run = run;
    this.definition = definition;
    this.#host = host;
    this.#history = new History(history, run.seq);
    this.#replayed = this.#history.settledWaits;
    this.deployed = run.code !== "" && run.code !== definition.code;
    if (this.deployed) this.#marker = this.#history.changeCode(definition.code);
  }

  // Life ---------------------------------------------------------------------------------------------------------------

  /** Calls the user's code. `body` is the definition's function with its arguments bound. */
  start(body: () => unknown): void {
    turnStorage.run({ turn: this, prefix: "", inStep: false }, () => {
      let returned: unknown;
      try {
        returned = body();
      } catch (error) {
        this.#settle({ error });
        return;
      }
      Promise.resolve(returned).then(
        (value) => this.#settle({ value }),
        (error: unknown) => this.#settle({ error }),
      );
    });
  }

  /** Goes on under a new claim with the answer to what alone it waits for, the settlement number `run.seq`. */
  answer(run: Partial<ClaimedRun> & Pick<ClaimedRun, "seq">, answer: Pick<Entry, "value" | "error">): void {
    const [key] = this.#open.keys();
    const entry = key === undefined ? undefined : this.#history.ask(key);
    if (entry === undefined) throw new Error(`Run ${this.run.id} was given an answer and waits for none.`);
    this.resume(run, [{ ...entry, seq: run.seq, value: answer.value, error: answer.error }]);
  }

  /** Goes on under a new claim with what settled since. `entries`: everything after `loaded`. */
  resume(run: Partial<ClaimedRun> & Pick<ClaimedRun, "seq">, entries: readonly Entry[]): void {
    Object.assign(this.run, run);
    this.#over = false;
    this.#quiet = 0;
    this.#calls += 1;
    for (const entry of this.#history.extend(entries, run.seq)) {
      const wait = this.#open.get(entry.key);
      if (!wait || entry.seq === undefined) continue;
      this.#open.delete(entry.key);
      this.#release(entry, wait);
    }
  }

  /** The request that a handler run starts with. It is open again after a failed run was retried. */
  firstRequest(): Promise<Entry> {
    const entry = this.#history.askFirst();
    if (!entry) throw new GembatchError("store_corrupt", `Run ${this.run.id} has lost its request.`);
    this.#calls += 1;
    return new Promise((resolve) => {
      if (entry.seq === undefined) this.#open.set(entry.key, { resolve });
      else this.#release(entry, { resolve });
    });
  }

  /** Settlements up to which the store's history is known here. */
  get loaded(): number {
    return this.#history.loaded;
  }

  get settled(): boolean {
    return this.#result !== undefined;
  }

  get stepsRunning(): number {
    return this.#steps;
  }

  /** Grows with every call; tells whether anything happened in between. */
  get calls(): number {
    return this.#calls;
  }

  /** One round: releases one recorded result, or finds out that nothing moves any more. */
  round(): TurnVerdict {
    // A turn that lost its claim never goes on; it must not stay in hand either.
    if (this.#lost || (this.#result !== undefined && this.#steps === 0)) return "over";
    if (this.#releases.length > 0) {
      this.#releaseNext();
      this.#quiet = 0;
      return "going";
    }
    if (this.#calls !== this.#callsAtRound) {
      this.#callsAtRound = this.#calls;
      this.#quiet = 0;
      return "going";
    }
    this.#quiet += 1;
    if (this.#quiet < quietRounds) return "going";
    if (this.#steps > 0 || this.#open.size === 0) return "idle";
    return "over";
  }

  /** Prompts that this turn asks for the first time. */
  get newRequests(): NewRequest[] {
    return this.#entries.flatMap(({ request }) => (request ? [request] : []));
  }

  /** Ends the turn and says what to commit. */
  finish(): TurnCommit {
    this.#over = true;
    const outcome = this.#outcome();
    return this.#commit(outcome, this.#entries.splice(0), this.#starts.splice(0));
  }

  /** Ends the turn with a failure of ours instead of its own result. */
  fail(error: GembatchError): TurnCommit {
    this.#over = true;
    this.abort();
    return this.#commit({ type: "failed", error: serializeError(error, error.code) }, [], []);
  }

  /** Ends the turn without any of its effects, for an operator to decide. */
  hold(): TurnCommit {
    this.#over = true;
    return this.#commit({ type: "held", error: serializeError(new GembatchError("run_held", "Held."), "run_held") }, [], []);
  }

  /** The commit was taken: what it carried is history now. */
  committed(result: CommitResult): void {
    if (result.state === "lost") {
      this.#lost = true;
      this.abort();
    }
  }

  /** Bytes that a waiting turn keeps in memory, roughly: its own, and twice the text that its code was given. */
  get weight(): number {
    return baseWeight + 2 * (this.run.input.length + this.#handedOut);
  }

  /** Drops what a waiting turn keeps in memory for nothing: answers that were handed out. */
  slim(): void {
    this.#history.slim();
  }

  /** Tells the code that nobody waits for it any more. */
  abort(): void {
    this.#abort?.abort();
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }

  note(text: string): void {
    this.#notes ??= new Set();
    this.#notes.add(text);
  }

  /** Still giving back what earlier turns recorded. */
  get replaying(): boolean {
    return this.#replayed > 0;
  }

  // What the context's methods do ----------------------------------------------------------------------------------------

  /**
   * Registers something to wait for and waits. `base` identifies it within its scope; equal bases are told apart by their order. Resolves with the
   * settled entry, also if it settled with an error; never settles while there is none.
   */
  wait(
    kind: EntryKind,
    base: string,
    fingerprint: string,
    create: (key: string) => { entry: Omit<NewEntry, "key" | "kind" | "fingerprint">; start?: NewRun },
    onChange?: OnChange,
  ): Promise<Entry> {
    const asked = this.#ask(kind, base, fingerprint, onChange);
    if (asked.late) return never();
    if (asked.entry === undefined) {
      const { entry, start } = create(asked.key);
      this.#add({ key: asked.key, kind, fingerprint, ...entry });
      if (start) this.#starts.push(start);
    }
    if (asked.entry?.seq === undefined) this.#replayed = 0;
    return new Promise<Entry>((resolve) => {
      const wait = { resolve };
      if (asked.entry?.seq !== undefined) this.#release(asked.entry, wait);
      else this.#open.set(asked.key, wait);
    });
  }

  /** One wait for all calls with this base in the whole run, in whatever scope: they share its result. */
  waitOnce(base: string, wait: () => Promise<Entry>): Promise<Entry> {
    this.#shared ??= new Map();
    let shared = this.#shared.get(base);
    if (shared === undefined) {
      const scope = turnStorage.getStore();
      shared = scope === undefined ? wait() : turnStorage.run({ ...scope, prefix: "shared/" }, wait);
      this.#shared.set(base, shared);
      // Its value is given out again to later calls, so a waiting turn must not drop it.
      void shared.then(({ key }) => this.#history.keep(key));
    }
    return shared;
  }

  /** The key that a prompt of this exact text was recorded under, without scope and count. */
  baseOf(fingerprint: string): string | undefined {
    return this.#history.baseOf(fingerprint);
  }

  /** Something that settles at once and is given back at every later turn: the time, a start. */
  record(
    kind: EntryKind,
    base: string,
    fingerprint: string,
    create: (key: string) => { value: string; start?: NewRun },
  ): string | undefined {
    const asked = this.#ask(kind, base, fingerprint, undefined);
    if (asked.late) return undefined;
    if (asked.entry) return asked.entry.value;
    const { value, start } = create(asked.key);
    this.#add({ key: asked.key, kind, fingerprint, settled: { value } });
    if (start) this.#starts.push(start);
    return value;
  }

  /** Runs `fn` unless its result is recorded; its result is durable before anything sees it. */
  async step(name: string, fn: () => unknown): Promise<unknown> {
    const asked = this.#ask("step", `s:${name}`, "", undefined);
    if (asked.late) return never();
    if (asked.entry?.seq !== undefined) {
      const entry = await new Promise<Entry>((resolve) => this.#release(asked.entry!, { resolve }));
      return entryValue(entry);
    }
    this.#steps += 1;
    this.#replayed = 0;
    try {
      let settled: { value: string } | { error: SerializedError };
      try {
        const scope = turnStorage.getStore()!;
        const value = await turnStorage.run({ ...scope, inStep: true }, async () => fn());
        settled = { value: toJson(value, `The value of step "${name}" of run ${this.run.id}`) };
      } catch (error) {
        settled = { error: serializeError(error, "run_failed") };
      }
      const entry: NewEntry = { key: asked.key, kind: "step", fingerprint: "", settled };
      this.#checkCount(1);
      // Only the step: prompts and starts of this turn land together at its end, or not at all.
      const result = await this.#host.commit(this.#commit({ type: "running" }, [entry], []));
      if (result.state === "lost") {
        this.committed(result);
        this.#host.touch(this);
        return await never();
      }
      return entryValue({ no: 0, key: asked.key, kind: "step", fingerprint: "", seq: 0, value: undefined, error: undefined, ...settled });
    } finally {
      this.#steps -= 1;
      this.#calls += 1;
      this.#host.touch(this);
    }
  }

  random(): number {
    this.#randoms += 1;
    const hex = Buffer.from(digest(`${this.run.id}\n${this.#randoms}`), "base64url").toString("hex");
    return Number.parseInt(hex.slice(0, 12), 16) / 2 ** 48;
  }

  /** An id for something that this run starts, the same at every turn. */
  childId(key: string): string {
    return `${this.run.id}.${digest(key).slice(0, 12).replaceAll(/[-_]/g, "0")}`;
  }

  now(): number {
    return this.#host.now();
  }

  // Divergence -----------------------------------------------------------------------------------------------------------

  /** Recorded waits that this turn's code did not ask for, although it asked for new ones: code and history disagree. */
  divergence(): { unasked: Entry[]; added: NewEntry[] } | undefined {
    if (this.#redone) return undefined;
    const whose = this.deployed ? "any" : "own";
    const added = this.#entries.filter((entry) => entry.kind === "request" || entry.kind === "child");
    if (added.length === 0) return undefined;
    const unasked = this.#history.unasked(whose);
    return unasked.length === 0 ? undefined : { unasked, added };
  }

  // Inside ---------------------------------------------------------------------------------------------------------------

  #ask(kind: EntryKind, base: string, fingerprint: string, onChange: OnChange | undefined): { key: string; entry?: Entry; late: boolean } {
    if (this.#over || this.#lost || this.#result !== undefined) {
      if (this.#result !== undefined) this.#afterEnd += 1;
      else if (!this.#lost) this.#host.late(this);
      return { key: base, late: true };
    }
    const scope = turnStorage.getStore();
    if (scope?.inStep === true && scope.turn === this) {
      throw new GembatchError("outside_of_run", `Run ${this.run.id} used ${kindWords[kind]} inside step().`, {
        hint: "A step runs to its end in one go; prompts, sleeps and child runs belong outside of it.",
      });
    }
    this.#calls += 1;
    this.#host.touch(this);
    const counted = `${scope?.prefix ?? ""}${base}`;
    let key = this.#history.nextKey(counted);
    let entry = this.#history.ask(key);
    if (entry && entry.fingerprint !== fingerprint && onChange !== undefined) {
      if (onChange === "fail") {
        throw new GembatchError("non_determinism", `The prompt with key "${base}" of run ${this.run.id} was edited after it was sent.`, {
          hint: 'Start a new run, or choose onChange "reuse" or "redo".',
        });
      }
      if (onChange === "redo") {
        this.#redone = true;
        key = `${key}@${fingerprint}`;
        entry = this.#history.ask(key);
        this.note(`The prompt with key "${base}" was edited; it is asked anew.`);
      } else {
        this.note(`The prompt with key "${base}" was edited; the answer to its earlier text is kept.`);
      }
    }
    return entry === undefined ? { key, late: false } : { key, entry, late: false };
  }

  #add(entry: NewEntry): void {
    this.#checkCount(1);
    this.#entries.push(entry);
  }

  #checkCount(more: number): void {
    if (this.#history.nextNo + this.#entries.length + more > this.#host.maxEntries) {
      throw new GembatchError("too_many_entries", `Run ${this.run.id} has more than ${this.#host.maxEntries} prompts, steps and waits.`, {
        hint: "Move parts of the work into child runs with call() or map().",
      });
    }
  }

  #release(entry: Entry, wait: OpenWait): void {
    this.#releases.push({ entry, wait });
    this.#releasesSorted = false;
  }

  #releaseNext(): void {
    if (!this.#releasesSorted) this.#releases.sort((a, b) => (b.entry.seq ?? 0) - (a.entry.seq ?? 0));
    this.#releasesSorted = true;
    const next = this.#releases.pop()!;
    if (this.#replayed > 0) this.#replayed -= 1;
    this.#handedOut += next.entry.value?.length ?? 0;
    next.wait.resolve(next.entry);
  }

  #settle(result: { value: unknown } | { error: unknown }): void {
    if (this.#over) {
      if (!this.#lost) this.#host.late(this);
      return;
    }
    this.#result = result;
    this.#host.touch(this);
  }

  #outcome(): TurnOutcome {
    const result = this.#result;
    if (result === undefined) return { type: "waiting" };
    // Prompts that the code sent but did not wait for: nobody would ever read the answers, so nobody pays for them.
    const dropped = new Set(this.#entries.filter((entry) => entry.settled === undefined).map(({ key }) => key));
    if (dropped.size + this.#afterEnd > 0) {
      this.note(`The run ended without waiting for ${dropped.size + this.#afterEnd} of its prompts or waits; they were not sent.`);
      this.#entries = this.#entries.filter(({ key }) => !dropped.has(key));
      this.#starts = this.#starts.filter(({ parent }) => parent === undefined || !dropped.has(parent.key));
    }
    if ("value" in result) {
      try {
        return { type: "completed", output: toJson(result.value, `The output of run ${this.run.id} (${this.run.chain})`) };
      } catch (error) {
        return { type: "failed", error: serializeError(error, "not_serializable") };
      }
    }
    const error = serializeError(result.error, "run_failed");
    // What a turn that threw asked for is not sent: its next try asks again.
    this.#entries = [];
    this.#starts = [];
    if (this.run.attempts + 1 < this.definition.maxAttempts) {
      return { type: "retry", at: this.#host.now() + 1_000 * 2 ** this.run.attempts, error };
    }
    return { type: "failed", error };
  }

  /** Key of the one of these entries that the turn waits for, if it is a request and nothing else is waited for. */
  #awaited(entries: readonly NewEntry[]): string | undefined {
    const [key] = this.#open.keys();
    if (key === undefined || this.#open.size > 1) return undefined;
    return entries.some((entry) => entry.key === key && entry.request !== undefined) ? key : undefined;
  }

  /** A commit of these entries; from here on they count as history. */
  #commit(outcome: TurnOutcome, own: NewEntry[], starts: NewRun[]): TurnCommit {
    const entries = this.#marker ? [this.#marker, ...own] : own;
    this.#marker = undefined;
    const awaits = outcome.type === "waiting" ? this.#awaited(entries) : undefined;
    const commit: TurnCommit = {
      run: this.run.id,
      epoch: this.run.epoch,
      seen: this.#history.seen,
      firstNo: this.#history.nextNo,
      entries,
      starts,
      code: this.definition.code,
      notes: [...(this.#notes ?? [])],
      outcome,
      ...(awaits !== undefined && { awaits }),
    };
    this.#history.add(entries);
    this.#notes = undefined;
    return commit;
  }
}

const kindWords: Record<EntryKind, string> = {
  request: "a prompt",
  step: "another step",
  sleep: "sleep()",
  child: "call() or map()",
  start: "start() or submit()",
  now: "now()",
  code: "other code",
};
