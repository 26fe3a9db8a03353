import { AsyncLocalStorage } from "node:async_hooks";
import type { Turn } from "./turn.ts";

/** Which turn the running code belongs to; follows every await. */
export interface TurnScope {
  turn: Turn;
  /** Key prefix of `scope()`. */
  prefix: string;
  /** Inside `step()`: waits of the run are not possible here. */
  inStep: boolean;
}

export const turnStorage = new AsyncLocalStorage<TurnScope>();
