import type { GoogleClient } from "./client.ts";
import { isConflict, isMissingMember, isNotFound } from "./errors.ts";

const conflicts = 6;

/**
 * Runs what reads, changes and writes back against the state that it read. Another writer in between (409, 412) means doing it again; so does an account or a service that was
 * just made and is not known everywhere yet.
 */
export async function rewrite<T>(client: GoogleClient, change: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ;) {
    try {
      return await change();
    } catch (error) {
      if (client.isPropagating && (isMissingMember(error) || isNotFound(error))) {
        await client.clock.sleep(5_000);
        continue;
      }
      if (!isConflict(error) || attempt === conflicts) throw error;
    }
    await client.clock.sleep(200 * attempt);
    attempt += 1;
  }
}
