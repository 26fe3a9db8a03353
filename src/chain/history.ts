import type { Entry, EntryKind, NewEntry } from "../core/store.ts";

/** What is recorded of a run, as far as a turn knows it, and what its code has asked for so far. */
export class History {
  readonly #entries = new Map<string, Entry>();
  readonly #asked = new Set<string>();
  /** Of bases that were asked more than once. */
  #occurrences: Map<string, number> | undefined;
  /** `null`: nothing was recorded when it was first wanted. */
  #bases: Map<string, string> | null | undefined;
  #firstAsked = false;
  #kept: Set<string> | undefined;
  #nextNo = 0;
  #seen: number;
  #loaded = 0;
  /** Entries below this number were recorded by other code, which asked for other things. */
  #otherCode = 0;

  /** @param seq settlements of the run at its claim: what was loaded covers them all, also those that a retry has taken back since. */
  constructor(entries: readonly Entry[], seq: number) {
    for (const entry of entries) this.#learn(entry);
    this.#seen = Math.max(seq, this.#loaded);
  }

  /** Settlements that the turn knows of. */
  get seen(): number {
    return this.#seen;
  }

  /** Every settlement up to this one was loaded from the store. */
  get loaded(): number {
    return this.#loaded;
  }

  /** Number of the next new entry. */
  get nextNo(): number {
    return this.#nextNo;
  }

  /** Adds what settled since; returns the entries that are news to the turn (its own steps are not). */
  extend(entries: readonly Entry[], seq: number): Entry[] {
    const news = entries.filter((entry) => {
      const known = this.#entries.get(entry.key)?.seq !== undefined;
      if (known) this.#loaded = Math.max(this.#loaded, entry.seq ?? 0);
      else this.#learn(entry);
      return !known;
    });
    this.#seen = Math.max(this.#seen, this.#loaded, seq);
    return news;
  }

  /** `base` with its count in this run: equal bases are told apart by the order in which they are asked. It is asked for with that. */
  nextKey(base: string): string {
    if (!this.#asked.has(base)) {
      this.#asked.add(base);
      return base;
    }
    this.#occurrences ??= new Map();
    const occurrence = this.#occurrences.get(base) ?? 1;
    this.#occurrences.set(base, occurrence + 1);
    const key = `${base}#${occurrence}`;
    this.#asked.add(key);
    return key;
  }

  /** The entry under this key, now asked for. */
  ask(key: string): Entry | undefined {
    this.#asked.add(key);
    return this.#entries.get(key);
  }

  /** The entry that a handler run starts with. Its key is not asked: code that asks for the same gets its answer. */
  askFirst(): Entry | undefined {
    this.#firstAsked = true;
    return [...this.#entries.values()].find(({ no }) => no === 0);
  }

  /** The key that a prompt of this exact text was recorded under, without scope and count. */
  baseOf(fingerprint: string): string | undefined {
    if (this.#bases === undefined) {
      this.#bases = null;
      for (const { kind, key, fingerprint: recorded } of this.#entries.values()) {
        if (kind !== "request") continue;
        this.#bases ??= new Map();
        this.#bases.set(recorded, key.slice(key.lastIndexOf("/") + 1).split("#")[0]!);
      }
    }
    return this.#bases?.get(fingerprint);
  }

  /** Waits recorded by this code (`own`) or by any that the code has not asked for. */
  unasked(whose: "own" | "any"): Entry[] {
    const from = whose === "own" ? this.#otherCode : 0;
    const first = this.#firstAsked ? 0 : -1;
    return [...this.#entries.values()].filter(({ no, key, kind }) => no >= from && no !== first && !this.#asked.has(key) && isWait(kind));
  }

  /** How many recorded results are handed out one by one when the code asks for them. */
  get settledWaits(): number {
    let count = 0;
    for (const { kind, seq } of this.#entries.values()) if (seq !== undefined && isWait(kind)) count += 1;
    return count;
  }

  /** Everything so far was recorded by other code. Returns the entry that remembers it. */
  changeCode(code: string): NewEntry {
    this.#otherCode = this.#nextNo;
    return { key: `code:${code}@${this.#nextNo}`, kind: "code", fingerprint: code, settled: { value: String(this.#nextNo) } };
  }

  /** Entries that are committed with this turn. The store numbers their settlements; here it only matters that there are any. */
  add(entries: readonly NewEntry[]): void {
    for (const { key, kind, fingerprint, settled } of entries) {
      if (settled) this.#seen += 1;
      const seq = settled ? 0 : undefined;
      this.#entries.set(key, { no: this.#nextNo, key, kind, fingerprint, seq, value: settled?.value, error: settled?.error });
      this.#asked.add(key);
      this.#nextNo += 1;
    }
  }

  /** The answer of this entry may be handed out again. */
  keep(key: string): void {
    this.#kept ??= new Set();
    this.#kept.add(key);
  }

  /** Drops the answers that were handed out, but for that of a handler's first request. */
  slim(): void {
    for (const key of this.#asked) {
      if (this.#kept?.has(key)) continue;
      const entry = this.#entries.get(key);
      if (entry?.seq !== undefined) entry.value = undefined;
    }
  }

  #learn(entry: Entry): void {
    this.#entries.set(entry.key, entry);
    this.#nextNo = Math.max(this.#nextNo, entry.no + 1);
    this.#loaded = Math.max(this.#loaded, entry.seq ?? 0);
    if (entry.kind === "code") this.#otherCode = Math.max(this.#otherCode, Number(entry.value));
  }
}

/** What code waits for; the rest is told at once. */
function isWait(kind: EntryKind): boolean {
  return kind !== "now" && kind !== "start" && kind !== "code";
}
