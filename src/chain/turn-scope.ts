import { AsyncLocalStorage } from "node:async_hooks";
import type { Answer } from "./stored-response.ts";
import type { Turn } from "./turn.ts";

/** Which turn the running code belongs to; follows every await. */
export interface TurnScope {
  turn: Turn;
  /** Key prefix of `scope()`. */
  prefix: string;
  /** Inside `step()`: waits of the run are not possible here. */
  inStep: boolean;
  /** The call of our facade that the official SDK is working on. */
  slot?: CallSlot;
}

/**
 * Lets the memory of an SDK's half-done call go while its answer is awaited: the first pass parks the answer and is dropped, a second pass
 * is given it.
 */
export interface CallSlot {
  park?: (answered: Promise<Answer>) => void;
  answer?: Answer | undefined;
}

export const turnStorage = new AsyncLocalStorage<TurnScope>();
