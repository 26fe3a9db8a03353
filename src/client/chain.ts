import type { Callable } from "../chain/context.ts";
import type { Definition } from "../chain/definition.ts";
import { checkDeadline, checkPriority, deadlineOf } from "../chain/call-options.ts";
import { turnStorage } from "../chain/turn-scope.ts";
import { timeOrderedId } from "../core/clock.ts";
import type { Duration } from "../core/duration.ts";
import { describe, GembatchError } from "../core/errors.ts";
import { canonicalJson, digest, toJson } from "../core/json.ts";
import { checkSignal, checkType, refuseUnknown } from "../core/options.ts";
import type { NewRun } from "../core/store.ts";
import { mapRuns, type MapItem, type MapOptions } from "./map-runs.ts";
import { RunHandle } from "./run-handle.ts";
import type { Session } from "./session.ts";
import { commitStart, startMany } from "./start-many.ts";

export interface StartOptions {
  /** Idempotence: the same id is the same run for ever, whoever starts it how often. Default: a new id. */
  id?: string;
  /** Higher first. Default 0. */
  priority?: number;
  /** When the run is wanted to be done: a duration from now on, or an instant. A target: prompts that a job would not answer in time go to a faster tier. Default: the chain's. */
  deadline?: Duration | Date;
}

export interface StartManyOptions<Input> {
  id?: (input: Input, index: number) => string;
  priority?: number;
  deadline?: Duration | Date;
  signal?: AbortSignal;
}

/** A registered chain: starts runs of it. */
export class Chain<Input, Output> implements Callable<Input, Output> {
  readonly name: string;
  declare readonly types?: (input: Input) => Output;
  readonly #session: Session;
  readonly #definition: Definition;

  constructor(session: Session, definition: Definition) {
    this.#session = session;
    this.#definition = definition;
    this.name = definition.name;
  }

  /** Starts one run. Inside a chain or handler the start is part of the turn: it happens if the turn commits, once. */
  async start(input: Input, options: StartOptions = {}): Promise<RunHandle<Output>> {
    refuseUnknown(options, ["id", "priority", "deadline"], "start options");
    if (options.id !== undefined) checkRunId(options.id);
    const turn = turnStorage.getStore()?.turn;
    if (turn) {
      const run = this.#newRun(input, "", { ...options, priority: options.priority ?? turn.run.priority });
      const base = `start:${digest(`${run.fingerprint}\n${options.id ?? ""}`)}`;
      const id = turn.record("start", base, run.fingerprint, (key) => {
        const start = { ...run, id: options.id ?? turn.childId(key) };
        return { value: JSON.stringify(start.id), start };
      });
      return new RunHandle(this.#session, JSON.parse(id ?? '""') as string);
    }
    const run = this.#newRun(input, options.id ?? this.#newId(), options);
    await commitStart(this.#session, run);
    return new RunHandle(this.#session, run.id);
  }

  /** Starts a run per input, at the pace of the store; takes async iterables of any length. */
  async startMany(
    inputs: Iterable<Input> | AsyncIterable<Input>,
    options: StartManyOptions<Input> = {},
  ): Promise<{ started: number; existing: number }> {
    refuseUnknown(options, ["id", "priority", "deadline", "signal"], "startMany options");
    checkMany(options);
    const count = { started: 0, existing: 0 };
    const toRun = this.#toRun(options);
    await startMany(
      this.#session,
      inputs,
      toRun,
      (ids, startedNow) => {
        count.started += startedNow;
        count.existing += ids.length - startedNow;
      },
      options.signal,
    );
    return count;
  }

  /** Starts a run per input and hands out every result: `for await (const { index, id, status, output, error } of chain.map(inputs)) …`. */
  map(inputs: Iterable<Input> | AsyncIterable<Input>, options: MapOptions<Input> = {}): AsyncGenerator<MapItem<Output>, void, void> {
    refuseUnknown(options, ["id", "order", "priority", "deadline", "onProgress", "signal"], "map options");
    checkMany(options);
    checkType(options.onProgress, "function", "onProgress");
    if (options.order !== undefined && options.order !== "input" && options.order !== "completion") {
      throw new GembatchError("invalid_option", `Option order must be "input" or "completion", got ${describe(options.order)}.`);
    }
    return mapRuns<Input, Output>(this.#session, inputs, this.#toRun(options), options);
  }

  /** The run with this id, started by whomever. */
  run(id: string): RunHandle<Output> {
    return new RunHandle(this.#session, checkRunId(id));
  }

  #toRun(options: StartManyOptions<Input>): (input: Input, index: number) => NewRun {
    const prefix = options.id === undefined ? this.#newId() : "";
    return (input, index) => this.#newRun(input, options.id ? checkRunId(options.id(input, index)) : `${prefix}-${index}`, options);
  }

  #newRun(input: Input, id: string, { priority = 0, deadline }: Pick<StartOptions, "priority" | "deadline">): NewRun {
    const { name, version, kind, deadlineMs } = this.#definition;
    if (deadline !== undefined) checkDeadline(deadline);
    const deadlineAt = deadlineOf(deadline ?? deadlineMs, { now: this.#session.parts.clock.now(), deadlineAt: undefined });
    const json = toJson(input, `The input of chain "${name}"`);
    return {
      id,
      kind,
      chain: name,
      version,
      input: json,
      fingerprint: digest(`${name}\n${canonicalJson(JSON.parse(json))}`),
      priority: checkPriority(priority),
      ...(deadlineAt === undefined ? {} : { deadlineAt }),
    };
  }

  #newId(): string {
    return timeOrderedId(this.#session.parts.clock.now(), this.#session.parts.random);
  }
}

/** What concerns every run is refused before the first one starts. */
function checkMany({ id, priority, deadline, signal }: StartManyOptions<never>): void {
  checkType(id, "function", "id");
  if (priority !== undefined) checkPriority(priority);
  if (deadline !== undefined) checkDeadline(deadline);
  checkSignal(signal);
}

export function checkRunId(id: unknown): string {
  if (typeof id === "string" && id !== "" && id.length <= 500 && id.isWellFormed()) return id;
  throw new GembatchError("invalid_argument", `A run's id must be a text of 1 to 500 characters, got ${describe(id)}.`);
}
