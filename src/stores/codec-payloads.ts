/** What of the store's records is payload, and how it passes through a codec. */
import { unwrapEncoded, unwrapParsed, wrapEncoded, type PayloadCodec } from "../core/codec.ts";
import { GembatchError, type SerializedError } from "../core/errors.ts";
import type {
  BatchRecord,
  BatchUpdate,
  Entry,
  NewEntry,
  NewRun,
  RequestRecord,
  RequestResult,
  RunRecord,
  SettleRow,
  Store,
  TurnCommit,
  TurnOutcome,
} from "../core/store.ts";
import { Gate } from "./gate.ts";

/** Calls of a codec at the same time: some that wait for a key service are worth it, a million at once are not. */
const parallel = 32;

export type RemainingResult = Parameters<Store["settleRemaining"]>[0]["result"];

/** The texts of an error that may quote a prompt, an answer or a user's data. Its code and name stay in clear. */
type ErrorTexts = Pick<SerializedError, "message" | "hint" | "stack" | "details">;

/** Records on their way in, encoded, and on their way out, decoded. `what` names the run or request for the error. */
export class Payloads {
  readonly #codec: PayloadCodec | undefined;
  readonly #gate = new Gate(parallel);

  /** Without a codec, encoded payloads are found out and refused. */
  constructor(codec: PayloadCodec | undefined) {
    this.#codec = codec;
  }

  // In

  async run(run: NewRun): Promise<NewRun> {
    const what = `run ${run.id}`;
    const [input, request] = await Promise.all([this.encode(run.input, what), run.request && this.entry(run.request, what)]);
    return { ...run, input, ...(request ? { request } : {}) };
  }

  async entry(entry: NewEntry, what: string): Promise<NewEntry> {
    const { request, settled } = entry;
    if (!request && !settled) return entry;
    return {
      ...entry,
      ...(request ? { request: { ...request, body: await this.encode(request.body, what) } } : {}),
      ...(settled ? { settled: await this.#valueOrError(settled, what) } : {}),
    };
  }

  async turn(turn: TurnCommit): Promise<TurnCommit> {
    const what = `run ${turn.run}`;
    const [entries, starts, outcome] = await Promise.all([
      Promise.all(turn.entries.map(async (entry) => this.entry(entry, what))),
      Promise.all(turn.starts.map(async (run) => this.run(run))),
      this.#outcome(turn.outcome, what),
    ]);
    return { ...turn, entries, starts, outcome };
  }

  async #outcome(outcome: TurnOutcome, what: string): Promise<TurnOutcome> {
    switch (outcome.type) {
      case "completed":
        return { ...outcome, output: await this.encode(outcome.output, what) };
      case "retry":
      case "failed":
      case "held":
        return { ...outcome, error: await this.error(outcome.error, what) };
      default:
        return outcome;
    }
  }

  async row(row: SettleRow): Promise<SettleRow> {
    return { ...row, result: await this.result(row.result, `request ${row.id}`) };
  }

  async result<Result extends RequestResult | RemainingResult>(result: Result, what: string): Promise<Result> {
    return "value" in result || "error" in result ? ((await this.#valueOrError(result, what)) as Result) : result;
  }

  async batch(update: BatchUpdate, what: string): Promise<BatchUpdate> {
    return update.error === undefined ? update : { ...update, error: await this.error(update.error, what) };
  }

  async error(error: SerializedError, what: string): Promise<SerializedError> {
    // Ours, quoting nothing: what is wrong with the codec must be storable without it.
    if (error.code === "codec_failed") return error;
    const { message, hint, stack, details, ...clear } = error;
    const texts: ErrorTexts = { message, hint, stack, details };
    return { ...clear, message: await this.encode(JSON.stringify(texts), what) };
  }

  async #valueOrError<T extends { value?: string; error?: SerializedError }>(item: T, what: string): Promise<T> {
    const { value, error } = item;
    return {
      ...item,
      ...(value === undefined ? {} : { value: await this.encode(value, what) }),
      ...(error === undefined ? {} : { error: await this.error(error, what) }),
    };
  }

  // Out

  async runRecord(run: RunRecord): Promise<RunRecord> {
    const what = `run ${run.id}`;
    const [input, output, error] = await Promise.all([
      this.#parsed(run.input, what),
      this.#parsed(run.output, what),
      this.decodeError(run.error, what),
    ]);
    return { ...run, input, output, error };
  }

  async requestRecord(request: RequestRecord): Promise<RequestRecord> {
    const what = `request ${request.id}`;
    const [body, response, error] = await Promise.all([
      this.#parsed(request.body, what),
      this.#parsed(request.response, what),
      this.decodeError(request.error, what),
    ]);
    return { ...request, body, response, error };
  }

  async batchRecord(batch: BatchRecord): Promise<BatchRecord> {
    return batch.error === undefined ? batch : { ...batch, error: await this.decodeError(batch.error, `batch ${batch.id}`) };
  }

  async storedEntry(entry: Entry, what: string): Promise<Entry> {
    const { value } = entry;
    const [text, error] = await Promise.all([
      value === undefined ? undefined : this.decode(value, what),
      this.decodeError(entry.error, what),
    ]);
    return { ...entry, value: text, error };
  }

  async decodeError(error: SerializedError | undefined, what: string): Promise<SerializedError | undefined> {
    const encoded = error && unwrapEncoded(error.message);
    if (encoded === undefined) return error;
    return { ...error, ...(parse(await this.#call("decode", encoded, what), what) as ErrorTexts) } as SerializedError;
  }

  async #parsed(value: unknown, what: string): Promise<unknown> {
    const encoded = unwrapParsed(value);
    return encoded === undefined ? value : parse(await this.#call("decode", encoded, what), what);
  }

  // Texts

  async encode(text: string, what: string): Promise<string> {
    return wrapEncoded(await this.#call("encode", text, what));
  }

  /** What was stored without a codec comes back as it is. */
  async decode(stored: string, what: string): Promise<string> {
    const encoded = unwrapEncoded(stored);
    return encoded === undefined ? stored : this.#call("decode", encoded, what);
  }

  async #call(method: "encode" | "decode", text: string, what: string): Promise<string> {
    const codec = this.#codec;
    if (!codec) throw codecFailed(`A payload of ${what} was stored with a codec, and there is none now`);
    return this.#gate.pass(async () => {
      try {
        const result: unknown = await codec[method](text);
        if (typeof result === "string") return result;
        throw new TypeError("it gave no text");
      } catch (cause) {
        throw codecFailed(`The codec could not ${method} a payload of ${what}`, cause);
      }
    });
  }
}

/** What the codec itself said stays in the cause: it may quote what it was given. */
export function codecFailed(message: string, cause?: unknown): GembatchError {
  const name = cause instanceof Error ? ` (${cause.name})` : "";
  return new GembatchError("codec_failed", `${message}${name}.`, {
    retryable: true,
    hint: "Check option codec: it must have every key that was ever used.",
    cause,
  });
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw codecFailed(`The codec decoded a payload of ${what} into something else than was encoded`);
  }
}
