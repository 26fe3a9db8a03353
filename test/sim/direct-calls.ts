import { rowKey } from "../../src/core/keys.ts";
import type { DirectCall } from "../../src/core/provider.ts";
import type { DeadlineDecision, MemberRow, Store } from "../../src/core/store.ts";
import { isDirect } from "../../src/core/tiers.ts";
import { promptText } from "../../src/testing/steerable-provider.ts";
import { Violation } from "./violation.ts";
import { sharedWord } from "./workload-tiers.ts";

/** One direct call: whether it came back without an answer, for whatever reason. */
export interface Asked {
  failed: boolean;
}

/** A request at one of its attempts. */
interface Named {
  id: string;
  attempt: number;
}

/** What each worker that held a member of a direct batch may do with it: one call. */
interface Member extends Named {
  batch: string;
  epochs: (number | undefined)[];
  calls: Asked[];
}

/**
 * Knows which prompts may be asked more than once: a call whose worker died or lost its batch is made again by whoever takes it over; one that failed is made again as the
 * next attempt; one that a deadline took out of its job or call is asked elsewhere. Nothing else is.
 */
export class DirectCalls {
  readonly #store: Store;
  readonly #epochOf: (batch: string) => number | undefined;
  readonly #members = new Map<string, Member>();
  /** Members by their text: a call does not say whose it is. No two requests of the workload have the same text at a direct tier at the same time. */
  readonly #byBody = new Map<string, Member>();
  readonly #moved = new Set<string>();
  /** Who was asked for all that share a prompt. */
  readonly #leaders = new Map<string, string>();

  calls = 0;

  constructor(store: Store, epochOf: (batch: string) => number | undefined) {
    this.#store = store;
    this.#epochOf = epochOf;
  }

  /** A worker has read the members of a batch: if it is answered directly, it calls each of them once. */
  async members(batch: string, rows: readonly MemberRow[]): Promise<void> {
    const record = await this.#store.getBatch({ id: batch });
    if (!record || !isDirect(record.lane)) return;
    for (const { id, attempt, body } of rows) {
      const key = rowKey(id, attempt);
      const member = this.#members.get(key) ?? { id, attempt, batch, epochs: [], calls: [] };
      member.epochs.push(this.#epochOf(batch));
      this.#members.set(key, member);
      this.#byBody.set(body, member);
    }
  }

  /** Which of these requests did leave their batch for a faster tier. */
  async decided(decisions: readonly DeadlineDecision[]): Promise<void> {
    for (const { id, attempt, batch, move } of decisions) {
      if (move === undefined || batch === undefined) continue;
      const request = await this.#store.getRequest({ id });
      if (request?.attempt === attempt + 1) this.#moved.add(rowKey(id, attempt));
    }
  }

  get moved(): number {
    return this.#moved.size;
  }

  isMoved({ id, attempt }: Named): boolean {
    return this.#moved.has(rowKey(id, attempt));
  }

  async called({ body }: DirectCall): Promise<Asked> {
    const member = this.#byBody.get(body);
    if (!member) throw new Violation("only what was committed is sent", "a call asks for what is in no batch");
    const key = rowKey(member.id, member.attempt);
    if (member.calls.length === 0) await this.asked(member, body);
    const asked: Asked = { failed: false };
    this.calls += 1;
    member.calls.push(asked);
    if (member.calls.length > member.epochs.length) {
      throw new Violation("one call for each who holds a prompt", `${key} was in ${member.epochs.length} hands and called once more`);
    }
    const request = await this.#store.getRequest({ id: member.id });
    const isMember = request?.state === "batched" && request.attempt === member.attempt && request.batch === member.batch;
    const [epoch] = member.epochs;
    // Who lost the batch meanwhile does not know it yet.
    const inHand = member.epochs.length === 1 && epoch === this.#epochOf(member.batch);
    if (inHand && !isMember && !this.isMoved(member)) {
      throw new Violation("only members of a batch are sent", `${key} is called and is ${request?.state}, attempt ${request?.attempt}`);
    }
    return asked;
  }

  /** A row of a job or the first call of an attempt: there must be a reason for it. */
  async asked({ id, attempt }: Named, body: string): Promise<void> {
    const before = this.#members.get(rowKey(id, attempt - 1));
    if (before && !before.calls.some(({ failed }) => failed) && !this.isMoved(before)) {
      throw new Violation("no prompt is paid twice without need", `${rowKey(id, attempt)} is asked, no call of the attempt before failed`);
    }
    const prompt = promptText(body);
    if (!prompt.startsWith(sharedWord)) return;
    const leader = this.#leaders.get(prompt);
    this.#leaders.set(prompt, id);
    if (leader === undefined || leader === id) return;
    const other = await this.#store.getRequest({ id: leader });
    if (other?.state !== "cancelled" && other?.state !== "failed") {
      throw new Violation("a shared prompt is asked once", `request ${id} is asked, and ${leader} was, which is ${other?.state}`);
    }
  }
}
