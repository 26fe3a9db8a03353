import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import type { RoleWish, Store, WorkerIdentity } from "../core/store.ts";
import { messageOf } from "../pipeline/stage.ts";

/** Claims that fail to commit this often in a row mean that the run kills its worker. */
const poisonAttempts = 5;
/** How often a worker that another one keeps from a role asks for it, and when one that takes long to stop first gives up its own. */
const eagerMs = 1_000;

const sendRole = (provider: string): string => `${provider}:send`;

export interface LeaseParts {
  store: Store;
  clock: Clock;
  log: Logger;
  worker: WorkerIdentity;
  leaseMs: number;
  providers: readonly string[];
  /** Whether nothing is in hand that would have to begin again if the worker gave up its claims. */
  isIdle: () => boolean;
  /** The store's own clock showed `time` during a call from `startedAt` to `endedAt`. */
  onStoreTime?: (time: number, startedAt: number, endedAt: number) => void;
}

/** The lease that keeps a worker's claims alive, and the roles that come with it. */
export class Lease {
  readonly #parts: LeaseParts;
  readonly #wishes: readonly RoleWish[];
  #held: readonly string[] = [];
  #renewedAt = -Infinity;
  #doubtedAt: number | undefined;
  #leaving = false;

  /** Every worker looks after jobs; one of them at a time fills and sends batches, so that queues, quotas and budgets are looked at by one alone. */
  constructor(parts: LeaseParts) {
    this.#parts = parts;
    this.#wishes = parts.providers.flatMap((provider) => [
      { name: provider, exclusive: false },
      { name: sendRole(provider), exclusive: true },
    ]);
  }

  /**
   * Whether anything new may be begun: the lease is alive, and the worker knows of all that it has in hand. One whose lease is over may have been given up, and another has
   * its roles.
   */
  get alive(): boolean {
    const { clock, leaseMs } = this.#parts;
    return this.#doubtedAt === undefined && clock.monotonic() - this.#renewedAt < leaseMs;
  }

  /** Providers whose jobs this worker looks after. */
  get providers(): string[] {
    return this.alive ? this.#parts.providers.filter((provider) => this.#held.includes(provider)) : [];
  }

  /** Whether this worker fills and sends the provider's batches. */
  sends(provider: string): boolean {
    return this.alive && this.#held.includes(sendRole(provider));
  }

  /**
   * A claim may have been made whose answer never came. As long as the lease is renewed nobody takes over what it took: so all claims are given up, as soon as nothing is in
   * hand, and after a lease in any case, as if the worker had died.
   */
  doubt(): void {
    this.#doubtedAt ??= this.#parts.clock.monotonic();
  }

  /** Three times within the lease; sooner while another worker keeps this one from a role, to take over soon after that one is gone, and while claims are in doubt. */
  get renewalMs(): number {
    const third = this.#parts.leaseMs / 3;
    const eager = this.#doubtedAt !== undefined || (!this.#leaving && this.#held.length < this.#wishes.length);
    return eager ? Math.min(eagerMs, third) : third;
  }

  /** Renews the lease if it is time; a process that was suspended finds it long overdue and renews at once. */
  async renewIfDue(): Promise<boolean> {
    if (this.#parts.clock.monotonic() - this.#renewedAt < this.renewalMs) return false;
    await this.#renew();
    return true;
  }

  /** Keeps the lease of a worker that stops, so that nobody takes over what it finishes. Its roles it gives up: others send meanwhile. */
  async whileLeaving(finish: () => Promise<void>): Promise<void> {
    this.#leaving = true;
    const finished = new AbortController();
    const renewing = this.#keepRenewing(finished.signal);
    try {
      await finish();
    } finally {
      finished.abort();
      await renewing;
    }
  }

  async #keepRenewing(until: AbortSignal): Promise<void> {
    const { clock, log } = this.#parts;
    for (let ms = Math.min(eagerMs, this.renewalMs); ; ms = this.renewalMs) {
      await clock.sleep(ms, { signal: until, background: true });
      if (until.aborted) return;
      await this.#renew().catch((error: unknown) => log.debug(`The worker's lease could not be renewed: ${messageOf(error)}`));
    }
  }

  async #renew(): Promise<void> {
    const { store, clock, worker, leaseMs, onStoreTime } = this.#parts;
    await this.#giveUpInDoubt();
    const monotonic = clock.monotonic();
    const startedAt = clock.now();
    const roles = this.#leaving ? [] : [...this.#wishes];
    const held = await store.heartbeat({ worker, now: startedAt, leaseMs, roles, maxAttempts: poisonAttempts });
    this.#renewedAt = monotonic;
    this.#held = held.roles;
    if (held.time !== undefined) onStoreTime?.(held.time, startedAt, clock.now());
  }

  async #giveUpInDoubt(): Promise<void> {
    const { store, clock, worker, leaseMs, isIdle, log } = this.#parts;
    const since = this.#doubtedAt;
    if (since === undefined || (!isIdle() && clock.monotonic() - since < leaseMs)) return;
    // Nothing is claimed from now until the lease is renewed; a claim that ends in doubt meanwhile counts anew.
    this.#renewedAt = -Infinity;
    this.#doubtedAt = undefined;
    try {
      await store.leave({ worker: worker.id, now: clock.now() });
    } catch (error) {
      this.#doubtedAt ??= since;
      throw error;
    }
    log.info("The answer to a claim was lost with the connection to the store: this worker has given up its claims and goes on.");
  }
}
