import { GembatchError } from "../../src/core/errors.ts";
import type { Provider } from "../../src/core/provider.ts";
import type { Store } from "../../src/core/store.ts";
import { never, type Interceptor, type PortCall } from "../../src/testing/intercept.ts";
import { MortalProcess } from "../../src/testing/process.ts";
import type { Plan } from "./plan.ts";
import { Violation } from "./violation.ts";
import { WorldClock, type Caller, type World } from "./world.ts";

export interface ProcessParts {
  world: World;
  plan: Plan;
  /** Whether faults may still happen. */
  faulty: () => boolean;
  store: Store;
  provider: Provider;
  onCrash: (process: SimProcess) => void;
  onFreeze: () => void;
}

/** A process of the simulation: each of its calls waits for its turn, and may be its last. */
export class SimProcess implements Caller, Interceptor {
  readonly name: string;
  readonly mortal: MortalProcess;
  frozenUntil = 0;
  /** Starts what comes after it. */
  onDeath: () => void = () => {};
  onClose: () => Promise<void> = async () => {};
  readonly #parts: ProcessParts;

  constructor(name: string, skewMs: number, parts: ProcessParts) {
    this.name = name;
    this.#parts = parts;
    const { world, store, provider } = parts;
    this.mortal = new MortalProcess({ clock: new WorldClock(world, this, skewMs), store, provider }, this);
    this.#note("starts");
  }

  /** A program that never ends by itself; what it throws is tried again, as a supervisor does. */
  run(program: () => Promise<void>): void {
    void (async () => {
      for (;;) {
        try {
          await program();
          return;
        } catch (error) {
          if (error instanceof Violation) {
            this.#parts.world.fail(error);
            return;
          }
          this.#note(`throws ${error instanceof Error ? error.message : String(error)}`);
          await this.mortal.clock.sleep(1_000);
        }
      }
    })();
  }

  async call<T>(call: PortCall, perform: () => Promise<T>): Promise<T> {
    await this.#turn();
    await this.#fate(call, "before");
    if (call.port === "store" && this.#draws(this.#parts.plan.storeFails)) {
      this.#note(`${call.method} finds the store locked`);
      throw new GembatchError("store_locked", "The store is locked.", { retryable: true });
    }
    const result = await this.#perform(call, perform);
    await this.#fate(call, "after");
    if (call.port === "store" && this.#draws(this.#parts.plan.storeAnswerLost)) {
      this.#note(`${call.method} is done, the answer lost`);
      throw new GembatchError("store_unavailable", "The connection to the store was lost.", {
        retryable: true,
        details: { inDoubt: true },
      });
    }
    return result;
  }

  async *stream<T>(call: PortCall, open: () => AsyncIterable<T>): AsyncIterable<T> {
    await this.#turn();
    await this.#fate(call, "before");
    let rows = 0;
    for await (const row of open()) {
      await this.#fate(call, "after");
      rows += 1;
      yield row;
    }
    this.#note(`${call.method} ends after ${rows} rows`);
    await this.#fate(call, "after");
  }

  async #turn(): Promise<void> {
    await this.#parts.world.turn(this);
    if (this.mortal.dead) await never();
  }

  async #perform<T>(call: PortCall, perform: () => Promise<T>): Promise<T> {
    try {
      const result = await perform();
      this.#note(`${call.method}${describeArguments(call)} → ${describeResult(result)}`);
      return this.#heartbeatOfMany(call, result);
    } catch (error) {
      this.#note(`${call.method}${describeArguments(call)} fails: ${error instanceof Error ? error.message : String(error)}`);
      throw error;
    }
  }

  /** Every role for everybody, the exclusive ones, too: a sender that froze and was replaced believes for a while that it still is one. */
  #heartbeatOfMany<T>({ method, args }: PortCall, result: T): T {
    if (method !== "heartbeat" || !this.#parts.plan.sharedRoles) return result;
    const [{ roles }] = args as [{ roles: { name: string }[] }];
    return { ...result, roles: roles.map(({ name }) => name) };
  }

  async #fate(call: PortCall, when: "before" | "after"): Promise<void> {
    const { world, plan, onCrash, onFreeze } = this.#parts;
    if (this.#draws(plan.crash / 2)) {
      this.#note(`dies ${when} ${call.method}`);
      this.mortal.kill();
      onCrash(this);
      await never();
    }
    const sending = when === "after" && isIntent(call) && this.#draws(plan.freezeSending);
    if (!sending && !this.#draws(plan.freeze / 2)) return;
    const ms = Math.round((sending ? 640_000 : plan.freezeMs) * world.random.next());
    this.#note(`freezes ${when} ${call.method} for ${ms} ms`);
    onFreeze();
    world.freeze(this, ms);
    await world.thaw(this);
    if (this.mortal.dead) await never();
    this.#note("thaws");
  }

  #draws(chance: number): boolean {
    return chance > 0 && !this.mortal.dead && this.#parts.faulty() && this.#parts.world.random.next() < chance;
  }

  #note(text: string): void {
    const { world } = this.#parts;
    world.trace.add(`${((world.now - world.startedAt) / 1_000).toFixed(3)} ${this.name} ${text}`);
  }
}

/** The last write before the request that creates a job. */
function isIntent({ method, args }: PortCall): boolean {
  return method === "updateBatch" && (args[0] as { update: { state?: string } }).update.state === "launching";
}

const shownArguments = new Set(["batch", "epoch", "update", "rows", "result", "ids", "turns", "cursor", "runs"]);

function describeArguments({ method, args }: PortCall): string {
  if (method === "startRuns" || method === "loadHistory") return "";
  const [params] = args;
  if (typeof params !== "object" || params === null) return typeof params === "string" ? ` ${params}` : "";
  const shown = Object.entries(params).filter(([name]) => shownArguments.has(name) || name === "token");
  const text = JSON.stringify(Object.fromEntries(shown), (name, value: unknown) =>
    name === "value" || name === "body" || name === "error" || name === "usage" || name === "stack" ? undefined : value,
  );
  return text === "{}" ? "" : ` ${text.slice(0, 400)}`;
}

function describeResult(result: unknown): string {
  if (Array.isArray(result))
    return result.length === 0
      ? "none"
      : result
          .map((item) => describeItem(item))
          .join(" ")
          .slice(0, 300);
  return describeItem(result).slice(0, 200);
}

function describeItem(item: unknown): string {
  if (typeof item !== "object" || item === null) return String(item);
  if (Array.isArray(item)) return `${item.length} items`;
  const { id, name, epoch, state, seq, roles } = item as Record<string, unknown>;
  const parts = [
    id ?? name,
    epoch === undefined ? undefined : `epoch ${epoch}`,
    state,
    seq === undefined ? undefined : `seq ${seq}`,
    roles,
  ];
  return parts.filter((part) => part !== undefined && part !== "").join(" ");
}
