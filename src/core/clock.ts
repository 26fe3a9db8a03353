/**
 * Time and chance as ports, so that the whole system can run in virtual time from a seed.
 *
 * @module
 */

/** Where time comes from. Nothing outside a clock reads the time or sets a timer. */
export interface Clock {
  /** Wall-clock time in milliseconds since 1970. May jump. */
  now(): number;
  /** Milliseconds that only ever grow; the zero point means nothing. For deadlines within one process. */
  monotonic(): number;
  /**
   * Resolves after `ms`, or at once when `signal` aborts (it never rejects). `background: true` means that the
   * wait alone must not keep the process alive.
   */
  sleep(ms: number, options?: { signal?: AbortSignal; background?: boolean }): Promise<void>;
}

/** Uniform numbers in [0, 1), and everything that is drawn from them. */
export interface Random {
  next(): number;
}

const crockford = "0123456789abcdefghjkmnpqrstvwxyz";

/** `length` random characters of Crockford's base 32, lower case: 5 bits each. */
export function randomText(random: Random, length: number): string {
  let text = "";
  for (let i = 0; i < length; i += 1) text += crockford[Math.floor(random.next() * 32)];
  return text;
}

/**
 * A new id that sorts by time: 9 characters of milliseconds, 11 random characters (55 bits). Stores insert such
 * ids about twice as fast as random ones, because they land at the end of the index.
 */
export function timeOrderedId(now: number, random: Random): string {
  let time = "";
  for (let rest = Math.floor(now), i = 0; i < 9; i += 1) {
    time = crockford[rest % 32] + time;
    rest = Math.floor(rest / 32);
  }
  return time + randomText(random, 11);
}
