/**
 * A store whose payloads pass through a codec.
 *
 * @module
 */
import { unwrapEncoded, type PayloadCodec } from "../core/codec.ts";
import { serializeError } from "../core/errors.ts";
import { silentLogger, type Logger } from "../core/log.ts";
import type {
  BatchRecord,
  ClaimedRun,
  CommitResult,
  Entry,
  MemberRow,
  Page,
  RequestRecord,
  RunRecord,
  StartOutcome,
  Store,
  StoreParams,
} from "../core/store.ts";
import { Payloads } from "./codec-payloads.ts";
import { giveBack, type UnreadableRun } from "./give-back.ts";
import { WrappedStore } from "./wrapped-store.ts";

/**
 * The same store with prompts, answers, inputs, outputs and the texts of errors encoded. Encoding is over before the one call of the wrapped store begins, so its atomicity is
 * untouched; what the codec cannot encode rejects with `codec_failed`, and nothing is written. Payloads that were stored without a codec are read as they are.
 *
 * What cannot be decoded rejects with `codec_failed` and the name of the run or request. Claimed runs are the exception, for one of them must not stop the others: they go back
 * to the store with that error, to be tried again after minutes, and are left out of the answer.
 *
 * Without a codec nothing is encoded, and what was encoded is never taken for an input, an answer or a prompt: the error names the option. Lists show it as it is stored.
 */
export function codecStore(store: Store, codec: PayloadCodec | undefined, log: Logger = silentLogger): Store {
  const payloads = new Payloads(codec);
  return codec === undefined ? new ReadingStore(store, payloads, log) : new CodecStore(store, payloads, log);
}

/** What workers read is decoded. */
class ReadingStore extends WrappedStore {
  protected readonly payloads: Payloads;
  readonly #log: Logger;

  constructor(store: Store, payloads: Payloads, log: Logger) {
    super(store);
    this.payloads = payloads;
    this.#log = log;
  }

  override async claimRuns(params: StoreParams<"claimRuns">): Promise<ClaimedRun[]> {
    const runs = await this.store.claimRuns(params);
    if (!runs.some(({ input }) => unwrapEncoded(input) !== undefined)) return runs;
    const unreadable: UnreadableRun[] = [];
    const decoded = await Promise.all(
      runs.map(async (run) =>
        this.payloads.decode(run.input, `run ${run.id}`).then(
          (input): ClaimedRun => ({ ...run, input }),
          (error: unknown) => void unreadable.push({ run, error: serializeError(error, "codec_failed") }),
        ),
      ),
    );
    if (unreadable.length > 0) await giveBack(this.store, params, unreadable, this.#log);
    return decoded.filter((run) => run !== undefined);
  }

  override async loadHistory(params: StoreParams<"loadHistory">): Promise<Entry[][]> {
    const histories = await this.store.loadHistory(params);
    return Promise.all(
      histories.map(async (entries, index) => {
        const what = `run ${params.runs[index]?.run}`;
        return entries.some(isEncoded) ? Promise.all(entries.map(async (entry) => this.payloads.storedEntry(entry, what))) : entries;
      }),
    );
  }

  override async readMembers(params: StoreParams<"readMembers">): Promise<MemberRow[]> {
    const members = await this.store.readMembers(params);
    if (!members.some(({ body }) => unwrapEncoded(body) !== undefined)) return members;
    return Promise.all(
      members.map(async (member) => ({ ...member, body: await this.payloads.decode(member.body, `request ${member.id}`) })),
    );
  }
}

function isEncoded({ value, error }: Entry): boolean {
  return (value !== undefined && unwrapEncoded(value) !== undefined) || (error !== undefined && unwrapEncoded(error.message) !== undefined);
}

/** Everything is encoded on its way in and decoded on its way out. */
class CodecStore extends ReadingStore {
  // In

  override async startRuns(params: StoreParams<"startRuns">): Promise<StartOutcome[]> {
    return this.store.startRuns({ ...params, runs: await Promise.all(params.runs.map(async (run) => this.payloads.run(run))) });
  }

  override async commitTurns(params: StoreParams<"commitTurns">): Promise<CommitResult[]> {
    return this.store.commitTurns({ ...params, turns: await Promise.all(params.turns.map(async (turn) => this.payloads.turn(turn))) });
  }

  override async updateBatch(params: StoreParams<"updateBatch">): Promise<boolean> {
    return this.store.updateBatch({ ...params, update: await this.payloads.batch(params.update, `batch ${params.batch}`) });
  }

  override async settleRows(params: StoreParams<"settleRows">): ReturnType<Store["settleRows"]> {
    return this.store.settleRows({ ...params, rows: await Promise.all(params.rows.map(async (row) => this.payloads.row(row))) });
  }

  override async settleRemaining(params: StoreParams<"settleRemaining">): ReturnType<Store["settleRemaining"]> {
    return this.store.settleRemaining({ ...params, result: await this.payloads.result(params.result, `batch ${params.batch}`) });
  }

  override async holdRuns(params: StoreParams<"holdRuns">): Promise<string[]> {
    return this.store.holdRuns({ ...params, error: await this.payloads.error(params.error, "runs to be held") });
  }

  // Out

  override async getRuns(params: StoreParams<"getRuns">): Promise<(RunRecord | undefined)[]> {
    const runs = await this.store.getRuns(params);
    return Promise.all(runs.map(async (run) => run && this.payloads.runRecord(run)));
  }

  override async listRuns(params: StoreParams<"listRuns">): Promise<Page<RunRecord>> {
    return this.#page(await this.store.listRuns(params), async (run) => this.payloads.runRecord(run));
  }

  override async getRequest(params: StoreParams<"getRequest">): Promise<RequestRecord | undefined> {
    const request = await this.store.getRequest(params);
    return request && this.payloads.requestRecord(request);
  }

  override async listRequests(params: StoreParams<"listRequests">): Promise<Page<RequestRecord>> {
    return this.#page(await this.store.listRequests(params), async (request) => this.payloads.requestRecord(request));
  }

  override async activeBatches(): Promise<BatchRecord[]> {
    return this.#batches(await this.store.activeBatches());
  }

  override async formBatch(params: StoreParams<"formBatch">): Promise<BatchRecord | undefined> {
    const batch = await this.store.formBatch(params);
    return batch && this.payloads.batchRecord(batch);
  }

  override async claimBatches(params: StoreParams<"claimBatches">): Promise<BatchRecord[]> {
    return this.#batches(await this.store.claimBatches(params));
  }

  override async dueSweeps(params: StoreParams<"dueSweeps">): Promise<BatchRecord[]> {
    return this.#batches(await this.store.dueSweeps(params));
  }

  override async getBatch(params: StoreParams<"getBatch">): Promise<BatchRecord | undefined> {
    const batch = await this.store.getBatch(params);
    return batch && this.payloads.batchRecord(batch);
  }

  override async listBatches(params: StoreParams<"listBatches">): Promise<Page<BatchRecord>> {
    return this.#page(await this.store.listBatches(params), async (batch) => this.payloads.batchRecord(batch));
  }

  async #batches(batches: BatchRecord[]): Promise<BatchRecord[]> {
    return Promise.all(batches.map(async (batch) => this.payloads.batchRecord(batch)));
  }

  async #page<T>(page: Page<T>, decode: (item: T) => Promise<T>): Promise<Page<T>> {
    return { ...page, items: await Promise.all(page.items.map(decode)) };
  }
}
