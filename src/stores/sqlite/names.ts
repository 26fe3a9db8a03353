import type { Lane } from "../../core/provider.ts";
import { atTier, type LaneTier, laneTier } from "../../core/tiers.ts";
import type { ChainVersions } from "../../core/store.ts";
import type { Connection } from "./connection.ts";

/**
 * Names as the small integers that stand for them in the hot rows. Lanes and chains are never removed, and the number of a
 * run is never used again, so a number that was committed stays right; `clear` drops those that a rolled back transaction may have made up.
 */
export class Names {
  readonly #connection: Connection;
  readonly #lanes = new Map<string, number>();
  readonly #lanesByNo = new Map<number, Lane>();
  readonly #chains = new Map<string, number>();
  readonly #chainsByNo = new Map<number, { chain: string; version: string }>();
  /** What was asked for last: most requests of a transaction are of one lane, most runs that start of one chain. */
  #lastLane: { lane: Lane; no: number } | undefined;
  #lastChain: { chain: string; version: string; no: number } | undefined;
  /** Runs in hand only: their commits need no look into the index of ids. */
  readonly #runs = new Map<string, number>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  clear(): void {
    this.#lastLane = undefined;
    this.#lastChain = undefined;
    this.#lanes.clear();
    this.#lanesByNo.clear();
    this.#chains.clear();
    this.#chainsByNo.clear();
    this.#runs.clear();
  }

  /** The lane's number; a lane that is new is added. */
  laneNo(lane: Lane): number {
    if (this.#lastLane !== undefined && isSameLane(this.#lastLane.lane, lane)) return this.#lastLane.no;
    const no = this.findLane(lane) ?? this.#addLane(lane);
    this.#lastLane = { lane: { ...lane }, no };
    return no;
  }

  #addLane(lane: Lane): number {
    const insert = this.#connection.prepare(`INSERT INTO lanes (provider, model, method, tier, shape) VALUES (?, ?, ?, ?, ?)`);
    const no = Number(insert.run(lane.provider, lane.model, lane.method, laneTier(lane), lane.shape ?? "").lastInsertRowid);
    this.#lanes.set(laneKey(lane), no);
    return no;
  }

  findLane(lane: Lane): number | undefined {
    const key = laneKey(lane);
    const known = this.#lanes.get(key);
    if (known !== undefined) return known;
    const row = this.#connection
      .prepare(`SELECT no FROM lanes WHERE provider = ? AND model = ? AND method = ? AND tier = ? AND shape = ?`)
      .get(lane.provider, lane.model, lane.method, laneTier(lane), lane.shape ?? "");
    if (row === undefined) return undefined;
    this.#lanes.set(key, row["no"] as number);
    return row["no"] as number;
  }

  lane(no: number): Lane {
    let lane = this.#lanesByNo.get(no);
    if (lane === undefined) {
      const select = this.#connection.prepare(`SELECT provider, model, method, tier, shape FROM lanes WHERE no = ?`);
      const { tier, shape, ...rest } = select.get(no) as unknown as Omit<Lane, "tier" | "shape"> & { tier: LaneTier; shape: string };
      lane = atTier<Lane>(shape === "" ? rest : { ...rest, shape }, tier);
      this.#lanesByNo.set(no, lane);
    }
    return { ...lane };
  }

  /** The number of a chain in one version; one that is new is added. */
  chainNo(chain: string, version: string): number {
    if (this.#lastChain?.chain === chain && this.#lastChain.version === version) return this.#lastChain.no;
    const no = this.#findChain(chain, version) ?? this.#addChain(chain, version);
    this.#lastChain = { chain, version, no };
    return no;
  }

  #addChain(chain: string, version: string): number {
    const no = Number(this.#connection.prepare(`INSERT INTO chains (chain, version) VALUES (?, ?)`).run(chain, version).lastInsertRowid);
    this.#chains.set(chainKey(chain, version), no);
    return no;
  }

  /** Numbers of the versions that occur in the store. */
  chainNos(chains: readonly ChainVersions[]): number[] {
    const numbers = new Set<number>();
    for (const { chain, versions } of chains) {
      for (const version of versions) {
        const no = this.#findChain(chain, version);
        if (no !== undefined) numbers.add(no);
      }
    }
    return [...numbers];
  }

  chain(no: number): { chain: string; version: string } {
    let names = this.#chainsByNo.get(no);
    if (names === undefined) {
      names = this.#connection.prepare(`SELECT chain, version FROM chains WHERE no = ?`).get(no) as { chain: string; version: string };
      this.#chainsByNo.set(no, names);
    }
    return names;
  }

  #findChain(chain: string, version: string): number | undefined {
    const key = chainKey(chain, version);
    const known = this.#chains.get(key);
    if (known !== undefined) return known;
    const row = this.#connection.prepare(`SELECT no FROM chains WHERE chain = ? AND version = ?`).get(chain, version);
    if (row === undefined) return undefined;
    this.#chains.set(key, row["no"] as number);
    return row["no"] as number;
  }

  runNo(id: string): number | undefined {
    return this.#runs.get(id) ?? (this.#connection.prepare(`SELECT no FROM runs WHERE id = ?`).get(id)?.["no"] as number | undefined);
  }

  keepRun(id: string, no: number): void {
    this.#runs.set(id, no);
  }

  dropRun(id: string): void {
    this.#runs.delete(id);
  }

  workerNo(id: string): number | undefined {
    return this.#connection.prepare(`SELECT no FROM workers WHERE id = ?`).get(id)?.["no"] as number | undefined;
  }

  /** The worker's number. One that never had a heartbeat gets a row whose lease is over: the next heartbeat of anyone ends its claims. */
  ensureWorker(id: string): number {
    return (
      this.workerNo(id) ??
      Number(this.#connection.prepare(`INSERT INTO workers (id, host, pid, lease_until) VALUES (?, '', 0, 0)`).run(id).lastInsertRowid)
    );
  }
}

const isSameLane = (a: Lane, b: Lane): boolean =>
  a.model === b.model && a.shape === b.shape && a.tier === b.tier && a.method === b.method && a.provider === b.provider;

// A length in front keeps two different names apart whatever characters they hold.
const laneKey = (lane: Lane): string =>
  `${laneTier(lane)}:${lane.method}:${lane.shape ?? ""}:${lane.provider.length}:${lane.provider}${lane.model}`;
const chainKey = (chain: string, version: string): string => `${chain.length}:${chain}${version}`;
