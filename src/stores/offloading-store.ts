/**
 * A store whose large payloads lie in a payload store.
 *
 * @module
 */
import type { Clock, Random } from "../core/clock.ts";
import { type GembatchError, serializeError } from "../core/errors.ts";
import { silentLogger, type Logger } from "../core/log.ts";
import {
  newPayloadKey,
  quotePayload,
  readParsed,
  readReference,
  referencePrefix,
  unquotePayload,
  writeReference,
  type PayloadOptions,
} from "../core/payload-store.ts";
import { isTerminalRun } from "../core/states.ts";
import type {
  ClaimedRun,
  CommitResult,
  Entry,
  MemberRow,
  NewRun,
  Page,
  RequestRecord,
  RunRecord,
  StartOutcome,
  Store,
  StoreParams,
} from "../core/store.ts";
import { Gate } from "./gate.ts";
import { giveBack, type UnreadableRun } from "./give-back.ts";
import { about, PayloadReader, toPayloadError, type Found } from "./payload-reader.ts";
import { changeRow, changeRun, changeTurn } from "./payload-texts.ts";
import { WrappedStore } from "./wrapped-store.ts";

type FoundTexts = ReadonlyMap<string, Found>;

/** Calls of the payload store at the same time. */
const parallel = 32;

/**
 * The same store with prompts, answers, inputs, outputs and values of steps above the threshold in the payload store; its rows hold references instead. Errors stay in rows, and so does what a
 * retry may deliver or many rows share.
 *
 * Texts are written before the one call of the wrapped store that refers to them. If one cannot be written, that call is not made, and `payload_unavailable` is thrown. Texts that no row came to refer to (a
 * lost claim, a start of a run that somebody else has just started, a process that died in between) stay behind, where nothing certain says that they are not needed. What `removeEnded` removes
 * from the store is removed from the payload store right after it.
 *
 * What cannot be read: claimed runs go back with the error, to be tried again after minutes; a member of a batch whose prompt is gone for certain fails, and the others go on; a run whose output is gone
 * is shown as failed; inputs and lists of runs show the reference. Everything else rejects and names the run or request. Inputs are only read when one run is looked at.
 *
 * Without a payload store nothing is written elsewhere, and references that are found are never taken for payloads: the error names the option.
 */
export function offloadingStore(
  store: Store,
  payloads: Required<PayloadOptions> | undefined,
  { clock, random, log = silentLogger }: { clock: Clock; random: Random; log?: Logger },
): Store {
  return new OffloadingStore(store, payloads, { clock, random, log });
}

/** Texts on their way into the payload store. */
interface Outgoing {
  key: string;
  text: string;
}

class OffloadingStore extends WrappedStore {
  readonly #payloads: Required<PayloadOptions> | undefined;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #log: Logger;
  readonly #gate = new Gate(parallel);
  readonly #reader: PayloadReader;

  constructor(store: Store, payloads: Required<PayloadOptions> | undefined, parts: { clock: Clock; random: Random; log: Logger }) {
    super(store);
    this.#payloads = payloads;
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#log = parts.log;
    this.#reader = new PayloadReader(payloads?.store, this.#gate);
  }

  override async close(): Promise<void> {
    try {
      await this.store.close();
    } finally {
      await this.#payloads?.store.close?.();
    }
  }

  // In

  override async startRuns(params: StoreParams<"startRuns">): Promise<StartOutcome[]> {
    const { now } = params;
    const present = await this.#present(params.runs);
    const outgoing: Outgoing[] = [];
    // A run that is there already is only compared, by its digest. Should it go away in this moment, it is started with everything in its row.
    const runs = params.runs.map((run) =>
      changeRun(run, present.has(run.id) ? quotePayload : (text) => this.#offload(text, now, outgoing)),
    );
    await this.#put(outgoing);
    return this.store.startRuns({ ...params, runs });
  }

  /** Of the runs with something to offload those that exist: programs that begin the same runs at each start need not write their payloads each time. */
  async #present(runs: readonly NewRun[]): Promise<ReadonlySet<string>> {
    const ids = runs
      .filter(({ input, request }) => [input, request?.request?.body ?? ""].some((text) => this.#isLarge(text)))
      .map(({ id }) => id);
    if (ids.length === 0) return new Set();
    const found = await this.store.getRuns({ ids });
    return new Set(found.flatMap((run) => run?.id ?? []));
  }

  override async commitTurns(params: StoreParams<"commitTurns">): Promise<CommitResult[]> {
    const written = params.turns.map((): Outgoing[] => []);
    const turns = params.turns.map((turn, index) => changeTurn(turn, (text) => this.#offload(text, params.now, written[index]!)));
    await this.#put(written.flat());
    const results = await this.store.commitTurns({ ...params, turns });
    // A run that was to be cancelled took nothing of its turn. A lost claim says less: an attempt of which nobody knows the end may have come through before.
    await this.#discard(written.filter((_, index) => results[index]?.state === "cancelled").flat());
    return results;
  }

  override async settleRows(params: StoreParams<"settleRows">): ReturnType<Store["settleRows"]> {
    const outgoing: Outgoing[] = [];
    const rows = params.rows.map((row) => changeRow(row, (text) => this.#offload(text, params.now, outgoing), quotePayload));
    await this.#put(outgoing);
    return this.store.settleRows({ ...params, rows });
  }

  override async settleRemaining(params: StoreParams<"settleRemaining">): ReturnType<Store["settleRemaining"]> {
    const { result } = params;
    if (result.type !== "retry" || result.value === undefined) return this.store.settleRemaining(params);
    return this.store.settleRemaining({ ...params, result: { ...result, value: quotePayload(result.value) } });
  }

  #isLarge(text: string): boolean {
    if (!this.#payloads) return false;
    const { threshold } = this.#payloads;
    // A character has one to three bytes.
    return text.length > threshold || (text.length * 3 > threshold && Buffer.byteLength(text) > threshold);
  }

  /** What the row holds; the text itself goes to `outgoing` if it is large. */
  #offload(text: string, now: number, outgoing: Outgoing[]): string {
    if (!this.#isLarge(text)) return quotePayload(text);
    const key = newPayloadKey(this.store.id, now, this.#random);
    outgoing.push({ key, text });
    return writeReference({ key, bytes: Buffer.byteLength(text) });
  }

  async #put(outgoing: readonly Outgoing[]): Promise<void> {
    const store = this.#payloads?.store;
    if (!store || outgoing.length === 0) return;
    const abort = new AbortController();
    let failure: unknown;
    const puts = outgoing.map(async ({ key, text }) =>
      this.#gate
        .pass(async () => {
          if (!abort.signal.aborted) await store.put(key, text, abort.signal);
        })
        .catch((thrown: unknown) => {
          // The others of this call are of no use any more.
          if (!abort.signal.aborted) failure = thrown;
          abort.abort();
        }),
    );
    await Promise.all(puts);
    if (!abort.signal.aborted) return;
    await this.#discard(outgoing);
    throw toPayloadError(failure, `${store.name} did not take a payload`);
  }

  /** Removes texts that no row refers to. What fails is left to whatever tidies up the payload store: nobody waits for it. */
  async #discard(texts: readonly { key: string }[]): Promise<void> {
    const store = this.#payloads?.store;
    if (!store || texts.length === 0) return;
    try {
      await store.delete(texts.map(({ key }) => key));
    } catch (thrown) {
      const { message } = toPayloadError(thrown, `${store.name} did not remove payloads`);
      this.#log.warn(`${texts.length} payloads that nothing refers to stay in ${store.name}: ${message}`);
    }
  }

  override async removeEnded(params: StoreParams<"removeEnded">): ReturnType<Store["removeEnded"]> {
    if (!this.#payloads) return this.store.removeEnded(params);
    const removed = await this.store.removeEnded({ ...params, referencePrefix });
    await this.#discard(removed.references.flatMap((text) => readReference(text) ?? []));
    // Nothing is left that the caller could remove.
    return { ...removed, references: [] };
  }

  // Out, for workers

  override async claimRuns(params: StoreParams<"claimRuns">): Promise<ClaimedRun[]> {
    const runs = await this.store.claimRuns(params);
    const found = await this.#reader.read(runs.map(({ input }) => input));
    const unreadable: UnreadableRun[] = [];
    const readable = runs.flatMap((run) => {
      const read = found.get(run.input);
      if (!read || "text" in read) return [withInput(run, read?.text ?? unquotePayload(run.input))];
      unreadable.push({ run, error: serializeError(about(`run ${run.id}`, read.error), "payload_unavailable") });
      return [];
    });
    if (unreadable.length > 0) await giveBack(this.store, params, unreadable, this.#log);
    return readable;
  }

  override async loadHistory(params: StoreParams<"loadHistory">): Promise<Entry[][]> {
    const histories = await this.store.loadHistory(params);
    const found = await this.#reader.read(histories.flatMap((entries) => entries.map(({ value }) => value)));
    return histories.map((entries, index) =>
      entries.map((entry) => {
        const value = entry.value === undefined ? undefined : payloadOf(entry.value, found, `run ${params.runs[index]?.run}`);
        return value === entry.value ? entry : { ...entry, value };
      }),
    );
  }

  override async readMembers(params: StoreParams<"readMembers">): Promise<MemberRow[]> {
    for (;;) {
      const members = await this.store.readMembers(params);
      const found = await this.#reader.read(members.map(({ body }) => body));
      const lost = members.flatMap((member) => {
        const error = errorOf(found.get(member.body));
        return error?.code === "payload_missing" ? [{ member, error }] : [];
      });
      if (lost.length === 0) return members.map((member) => ({ ...member, body: payloadOf(member.body, found, `request ${member.id}`) }));
      await this.#fail(params.batch, lost);
      // The page once more, without them: a shorter one would look like the last.
    }
  }

  /** Members whose prompts are gone for ever fail: in their batch they would stop all others. */
  async #fail(id: string, lost: readonly { member: MemberRow; error: GembatchError }[]): Promise<void> {
    const batch = await this.store.getBatch({ id });
    const rows = lost.map(({ member, error }) => {
      const shown = about(`request ${member.id}`, error);
      this.#log.error(shown.message, { request: member.id, batch: id });
      return {
        id: member.id,
        attempt: member.attempt,
        result: { type: "failed", error: serializeError(shown, "payload_missing") } as const,
      };
    });
    const now = this.#clock.now();
    const settled = batch && (await this.store.settleRows({ batch: id, epoch: batch.epoch, now, rows, unknown: 0, cursor: batch.cursor }));
    // Somebody else has the batch: what is read here is of no use.
    const [first] = lost;
    if (first && settled?.settled !== rows.length) throw about(`request ${first.member.id}`, first.error);
  }

  // Out, for whoever looks

  override async getRuns(params: StoreParams<"getRuns">): Promise<(RunRecord | undefined)[]> {
    const runs = await this.store.getRuns(params);
    // Who awaits many runs looks at all of them again and again, for the outputs of those that have ended.
    const looked = runs.filter((run) => run !== undefined);
    const inputs = looked.length === 1 ? looked.map(({ input }) => stored(input)) : [];
    const found = await this.#reader.read([...inputs, ...looked.filter(hasEnded).map(({ output }) => stored(output))]);
    for (const { id, output } of looked) {
      const failed = errorOf(found.get(stored(output) ?? ""));
      if (failed && isPassing(failed)) throw about(`run ${id}`, failed);
    }
    return runs.map((run) => run && shownRun(run, found));
  }

  override async listRuns(params: StoreParams<"listRuns">): Promise<Page<RunRecord>> {
    const page = await this.store.listRuns(params);
    const found = await this.#reader.read(page.items.flatMap(({ input, output }) => [stored(input), stored(output)]));
    return { ...page, items: page.items.map((run) => shownRun(run, found)) };
  }

  override async getRequest(params: StoreParams<"getRequest">): Promise<RequestRecord | undefined> {
    const request = await this.store.getRequest(params);
    return request && (await this.#requests([request]))[0];
  }

  override async listRequests(params: StoreParams<"listRequests">): Promise<Page<RequestRecord>> {
    const page = await this.store.listRequests(params);
    return { ...page, items: await this.#requests(page.items) };
  }

  async #requests(requests: readonly RequestRecord[]): Promise<RequestRecord[]> {
    const found = await this.#reader.read(requests.flatMap(({ body, response }) => [stored(body), stored(response)]));
    return requests.map((request) => {
      const { id, body, response } = request;
      // Workers look here, too: they must not take a reference for a prompt because the payload store is away.
      const failed = [body, response].map((value) => errorOf(found.get(stored(value) ?? ""))).find((error) => error && isPassing(error));
      if (failed) throw about(`request ${id}`, failed);
      return { ...request, body: shown(body, found), response: shown(response, found) };
    });
  }
}

const errorOf = (found: Found | undefined): GembatchError | undefined => (found && "error" in found ? found.error : undefined);
const isPassing = (error: GembatchError): boolean => error.code !== "payload_missing";
const hasEnded = ({ state }: RunRecord): boolean => isTerminalRun(state);
const withInput = (run: ClaimedRun, input: string): ClaimedRun => (input === run.input ? run : { ...run, input });

/** The payload of a stored text. */
function payloadOf(text: string, found: FoundTexts, what: string): string {
  const read = found.get(text);
  if (!read) return unquotePayload(text);
  if ("text" in read) return read.text;
  throw about(what, read.error);
}

/** The reference that a parsed payload was stored as. */
function stored(value: unknown): string | undefined {
  const parsed = readParsed(value);
  return parsed && "reference" in parsed ? parsed.reference : undefined;
}

/** The payload of a parsed text; the reference itself if it cannot be had. */
function shown(value: unknown, found: FoundTexts): unknown {
  const parsed = readParsed(value);
  if (!parsed) return value;
  if ("text" in parsed) return JSON.parse(parsed.text);
  const read = found.get(parsed.reference);
  return read && "text" in read ? JSON.parse(read.text) : value;
}

/** A run whose output is gone for ever has nothing for whoever awaits it: they are told why, and the store is left as it is. */
function shownRun(run: RunRecord, found: FoundTexts): RunRecord {
  const error = errorOf(found.get(stored(run.output) ?? ""));
  const record = { ...run, input: shown(run.input, found), output: shown(run.output, found) };
  if (error?.code !== "payload_missing") return record;
  return { ...record, state: "failed", output: undefined, error: serializeError(about(`run ${run.id}`, error), "payload_missing") };
}
