import { GembatchError } from "../../core/errors.ts";
import type { Lane } from "../../core/provider.ts";
import type { ChainVersions } from "../../core/store.ts";
import { atTier, type LaneTier, laneTier } from "../../core/tiers.ts";
import type { Sql } from "./session.ts";
import { Conflict } from "./errors.ts";

interface ChainName {
  chain: string;
  version: string;
}

/** Runs that were claimed at once: a row of `gb.hands`, and how many of them this process has not given back yet. */
export interface Hand {
  worker: number;
  no: number;
  left: number;
}

/** A run in hand. */
interface HeldRun {
  no: number;
  epoch: number;
  hand: Hand;
}

/**
 * Names as the small integers that stand for them in the hot rows. Lanes and chains are never removed, so a number that was committed stays right.
 * What a transaction adds is kept here only when it has committed.
 */
export class Names {
  readonly lanes = new Map<string, number>();
  readonly lanesByNo = new Map<number, Lane>();
  readonly chains = new Map<string, number>();
  readonly chainsByNo = new Map<number, ChainName>();
  /** Runs in hand only: their commits need no look into the index of ids. */
  readonly runs = new Map<string, HeldRun>();
  /** Of which nothing is in hand any more. */
  readonly emptyHands = new Set<Hand>();
  /** Workers that claim here, by the number that they claimed with last. */
  readonly workers = new Map<string, number>();
}

/** The names as one transaction sees them. */
export class TransactionNames {
  readonly #names: Names;
  readonly #sql: Sql;
  readonly #newLanes = new Map<string, number>();
  readonly #newChains = new Map<string, number>();

  constructor(names: Names, sql: Sql) {
    this.#names = names;
    this.#sql = sql;
  }

  readonly #kept = new Map<string, HeldRun>();
  readonly #dropped = new Map<string, number>();
  readonly #removed: Hand[] = [];

  /** What was added is there for everybody now, and what was done with runs and hands has been done. */
  commit(): void {
    for (const [id, run] of this.#kept) {
      this.#leaveHand(id);
      this.#names.runs.set(id, run);
    }
    for (const [id, epoch] of this.#dropped) if ((this.#names.runs.get(id)?.epoch ?? Infinity) <= epoch) this.#leaveHand(id);
    for (const hand of this.#removed) this.#names.emptyHands.delete(hand);
    for (const [key, no] of this.#newLanes) this.#names.lanes.set(key, no);
    for (const [key, no] of this.#newChains) this.#names.chains.set(key, no);
  }

  /** The lane's number; a lane that is new is added. */
  async laneNo(lane: Lane): Promise<number> {
    const known = await this.findLane(lane);
    if (known !== undefined) return known;
    await this.#sql.run(
      `INSERT INTO gb.lanes (provider, model, method, tier, shape) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
      laneValues(lane),
    );
    const no = await this.findLane(lane);
    if (no === undefined) throw new Error("A lane was not added.");
    this.#newLanes.set(laneKey(lane), no);
    return no;
  }

  /** What was asked for last: most requests of a transaction are of one lane. */
  #lastLane: { lane: Lane; no: number } | undefined;

  async findLane(lane: Lane): Promise<number | undefined> {
    if (this.#lastLane !== undefined && isSameLane(this.#lastLane.lane, lane)) return this.#lastLane.no;
    const no = await this.#lookUpLane(lane);
    if (no !== undefined) this.#lastLane = { lane: { ...lane }, no };
    return no;
  }

  async #lookUpLane(lane: Lane): Promise<number | undefined> {
    const key = laneKey(lane);
    const known = this.#names.lanes.get(key) ?? this.#newLanes.get(key);
    if (known !== undefined) return known;
    const [row] = await this.#sql.query<{ no: number }>(
      `SELECT no FROM gb.lanes WHERE provider = $1 AND model = $2 AND method = $3 AND tier = $4 AND shape = $5`,
      laneValues(lane),
    );
    if (row !== undefined) this.#newLanes.set(key, row.no);
    return row?.no;
  }

  async lane(no: number): Promise<Lane> {
    await this.loadLanes([no]);
    return this.laneOf(no);
  }

  /** Makes `laneOf` know these numbers. */
  async loadLanes(numbers: Iterable<number>): Promise<void> {
    const wanted = [...new Set(numbers)].filter((no) => !this.#names.lanesByNo.has(no));
    if (wanted.length === 0) return;
    const rows = await this.#sql.query<Omit<Lane, "tier" | "shape"> & { no: number; tier: LaneTier; shape: string }>(
      `SELECT no, provider, model, method, tier, shape FROM gb.lanes WHERE no = ANY($1::int4[])`,
      [wanted],
    );
    for (const { no, tier, shape, provider, model, method } of rows) {
      this.#names.lanesByNo.set(no, atTier<Lane>({ provider, model, method, ...(shape === "" ? {} : { shape }) }, tier));
    }
  }

  /** The lane of a number that was loaded. */
  laneOf(no: number): Lane {
    const lane = this.#names.lanesByNo.get(no);
    if (lane === undefined) throw new Error(`There is no lane ${no}.`);
    return { ...lane };
  }

  /** The number of a chain in one version; one that is new is added. */
  async chainNo(chain: string, version: string): Promise<number> {
    const known = await this.#findChain(chain, version);
    if (known !== undefined) return known;
    await this.#sql.run(`INSERT INTO gb.chains (chain, version) VALUES ($1, $2) ON CONFLICT DO NOTHING`, [chain, version]);
    const no = await this.#findChain(chain, version);
    if (no === undefined) throw new Error("A chain was not added.");
    return no;
  }

  async #findChain(chain: string, version: string): Promise<number | undefined> {
    const key = chainKey(chain, version);
    const known = this.#names.chains.get(key) ?? this.#newChains.get(key);
    if (known !== undefined) return known;
    const [row] = await this.#sql.query<{ no: number }>(`SELECT no FROM gb.chains WHERE chain = $1 AND version = $2`, [chain, version]);
    if (row !== undefined) this.#newChains.set(key, row.no);
    return row?.no;
  }

  /** Numbers of the versions that occur in the store. One look for all that are not known yet. */
  async chainNos(chains: readonly ChainVersions[]): Promise<number[]> {
    const numbers = new Set<number>();
    const unknown: ChainName[] = [];
    for (const { chain, versions } of chains) {
      for (const version of versions) {
        const no = this.#names.chains.get(chainKey(chain, version));
        if (no === undefined) unknown.push({ chain, version });
        else numbers.add(no);
      }
    }
    if (unknown.length > 0) {
      const rows = await this.#sql.query<ChainName & { no: number }>(
        `SELECT c.no, c.chain, c.version FROM unnest($1::text[], $2::text[]) AS u(chain, version)
         JOIN gb.chains c ON c.chain = u.chain AND c.version = u.version`,
        [unknown.map(({ chain }) => chain), unknown.map(({ version }) => version)],
      );
      for (const { no, chain, version } of rows) {
        numbers.add(no);
        // Committed, for this look sees nothing else.
        this.#newChains.set(chainKey(chain, version), no);
      }
    }
    return [...numbers];
  }

  /** Makes `chainOf` know these numbers. */
  async loadChains(numbers: Iterable<number>): Promise<void> {
    const wanted = [...new Set(numbers)].filter((no) => !this.#names.chainsByNo.has(no));
    if (wanted.length === 0) return;
    const rows = await this.#sql.query<ChainName & { no: number }>(`SELECT no, chain, version FROM gb.chains WHERE no = ANY($1::int4[])`, [
      wanted,
    ]);
    for (const { no, chain, version } of rows) this.#names.chainsByNo.set(no, { chain, version });
  }

  chainOf(no: number): ChainName {
    const name = this.#names.chainsByNo.get(no);
    if (name === undefined) throw new Error(`There is no chain ${no}.`);
    return name;
  }

  async runNo(id: string): Promise<number | undefined> {
    return (await this.runNos([id])).get(id);
  }

  /** Numbers of the runs that exist, by id. */
  async runNos(ids: readonly string[]): Promise<Map<string, number>> {
    if (ids.length === 0) return new Map();
    const rows = await this.#sql.rows<[string, number]>(`SELECT id, no FROM gb.run_inputs WHERE id = ANY($1::text[])`, [storable(ids)]);
    return new Map(rows);
  }

  /**
   * The same for runs that this process has claimed, without a look for those it remembers. One that it has lost since may have been removed and started again under another number: what is done with
   * the old one finds nothing, as it should. So this is only for who has it in hand.
   */
  async claimedNos(ids: readonly string[]): Promise<Map<string, number>> {
    const found = await this.runNos(ids.filter((id) => !this.#names.runs.has(id)));
    for (const id of ids) {
      const run = this.#names.runs.get(id);
      if (run !== undefined) found.set(id, run.no);
    }
    return found;
  }

  /** These runs are in this hand, all that are. */
  keepRuns({ worker, no }: Omit<Hand, "left">, runs: readonly { id: string; no: number; epoch: number }[]): void {
    const hand = { worker, no, left: runs.length };
    for (const run of runs) this.#kept.set(run.id, { no: run.no, epoch: run.epoch, hand });
  }

  /** A run that was claimed under this epoch is in hand no more. One that was claimed again since stays. */
  dropRun(id: string, epoch: number): void {
    this.#dropped.set(id, epoch);
  }

  #leaveHand(id: string): void {
    const run = this.#names.runs.get(id);
    if (run === undefined) return;
    this.#names.runs.delete(id);
    run.hand.left -= 1;
    if (run.hand.left === 0) this.#names.emptyHands.add(run.hand);
  }

  /** Removes the rows of hands that are empty. */
  async removeEmptyHands(): Promise<void> {
    for (const [worker, hands] of Map.groupBy(this.#names.emptyHands, (hand) => hand.worker)) {
      await this.#sql.send(`DELETE FROM gb.hands WHERE worker = $1 AND no = ANY($2::int8[])`, [worker, hands.map(({ no }) => no)]);
      this.#removed.push(...hands);
    }
  }

  /** The number that runs in this worker's hand have. An older one than the store has is no danger: whoever was given up finds no run of his. */
  async claimant(id: string): Promise<number | undefined> {
    const known = this.#names.workers.get(id);
    if (known !== undefined) return known;
    const [row] = await this.#sql.query<{ no: number }>(`SELECT no FROM gb.workers WHERE id = $1`, [id]);
    return row?.no;
  }

  /** The worker's number, and that it stays until this transaction ends. */
  async workerNo(id: string): Promise<number | undefined> {
    const [row] = await this.#sql.query<{ no: number }>(`SELECT no FROM gb.workers WHERE id = $1 FOR KEY SHARE`, [id]);
    return row?.no;
  }

  /** What is done under the worker's number, and the number: looked at in the same round trip if it is remembered. */
  async asWorker<T>(id: string, work: (no: number) => Promise<T>): Promise<{ no: number; value: T }> {
    const known = this.#names.workers.get(id);
    if (known === undefined) {
      const no = await this.ensureWorker(id);
      return { no, value: await work(no) };
    }
    const [no, value] = await Promise.all([this.ensureWorker(id), work(known)]);
    if (no !== known) {
      // The next try looks first.
      this.#names.workers.delete(id);
      throw new Conflict("The worker was removed and has another number now.");
    }
    return { no, value };
  }

  /** One that never had a heartbeat gets a row whose lease is over: the next heartbeat of anyone ends its claims. */
  async ensureWorker(id: string): Promise<number> {
    for (let tries = 0; tries < 3; tries += 1) {
      const no = await this.workerNo(id);
      if (no !== undefined) {
        this.#names.workers.set(id, no);
        return no;
      }
      await this.#sql.run(`INSERT INTO gb.workers (id, host, pid, lease_until) VALUES ($1, '', 0, 0) ON CONFLICT DO NOTHING`, [id]);
    }
    throw new GembatchError("store_unavailable", "A worker was removed again and again while it claimed.", { retryable: true });
  }
}

/** A text with U+0000 cannot be in the store, and one with half of a surrogate pair would be another there. */
export const isStorable = (text: string): boolean => !text.includes("\0") && text.isWellFormed();

/** Ids that could be in the store: asking for others would be an error. */
export const storable = (ids: readonly string[]): string[] => ids.filter(isStorable);

const laneValues = (lane: Lane): string[] => [lane.provider, lane.model, lane.method, laneTier(lane), lane.shape ?? ""];

const isSameLane = (a: Lane, b: Lane): boolean =>
  a.model === b.model && a.shape === b.shape && a.tier === b.tier && a.method === b.method && a.provider === b.provider;

// A length in front keeps two different names apart whatever characters they hold.
const laneKey = (lane: Lane): string =>
  `${laneTier(lane)}:${lane.method}:${lane.shape ?? ""}:${lane.provider.length}:${lane.provider}${lane.model}`;
const chainKey = (chain: string, version: string): string => `${chain.length}:${chain}${version}`;
