import { errorText } from "../batch-update.ts";
import type { RoleWish, WorkerIdentity } from "../../core/store.ts";
import { RUN } from "../codes.ts";
import { cancelled, poison } from "../run-errors.ts";
import { endRun, inHand } from "./runs.ts";
import { RUNS } from "../counts.ts";
import type { Unit } from "./unit.ts";

export interface DeadWorker {
  no: number;
  /** Its lease as it was seen. */
  leaseUntil: number;
}

/** Renews the lease. Returns the workers whose time is over, for `giveUp`. */
export async function renew(
  unit: Unit,
  params: { worker: WorkerIdentity; leaseMs: number },
  leaseNow: number,
  isAlive: (pid: number) => boolean,
): Promise<DeadWorker[]> {
  const { worker } = params;
  await unit.sql.run(
    `INSERT INTO gb.workers (id, host, pid, lease_until) VALUES ($1, $2, $3, $4)
     ON CONFLICT (id) DO UPDATE SET host = excluded.host, pid = excluded.pid, lease_until = excluded.lease_until`,
    [worker.id, worker.host, worker.pid, leaseNow + params.leaseMs],
  );
  // A run that is claimed again is in a hand of its own, so one that is empty stays so.
  await unit.names.removeEmptyHands();
  const others = await unit.sql.query<{ no: number; host: string; pid: number; lease_until: number }>(
    `SELECT no, host, pid, lease_until FROM gb.workers WHERE id <> $1 ORDER BY no`,
    [worker.id],
  );
  return others
    .filter((other) => other.lease_until <= leaseNow || (other.host === worker.host && other.pid !== worker.pid && !isAlive(other.pid)))
    .map(({ no, lease_until: leaseUntil }) => ({ no, leaseUntil }));
}

/** Gives each wanted role to this worker: an exclusive one unless another has it; dead holders have been removed before. */
export async function takeRoles(unit: Unit, worker: string, wishes: readonly RoleWish[]): Promise<string[]> {
  const no = await unit.names.ensureWorker(worker);
  const exclusive = wishes.flatMap(({ name, exclusive: alone }) => (alone ? [name] : []));
  await unit.sql.run(`DELETE FROM gb.roles WHERE worker = $1 AND NOT role = ANY($2::text[])`, [no, exclusive]);
  if (exclusive.length > 0) {
    await unit.sql.run(
      `INSERT INTO gb.roles (role, worker) SELECT u.role, $1 FROM unnest($2::text[]) AS u(role) ORDER BY u.role ON CONFLICT (role) DO NOTHING`,
      [no, exclusive],
    );
  }
  const held = await unit.sql.query<{ role: string }>(`SELECT role FROM gb.roles WHERE worker = $1`, [no]);
  const mine = new Set(held.map(({ role }) => role));
  return wishes.filter(({ name, exclusive: alone }) => !alone || mine.has(name)).map(({ name }) => name);
}

/**
 * Gives up a worker whose time is over, unless it has renewed its lease since, or somebody else is at it. Its row is locked first: nobody can claim for it any more, and what it
 * claimed is seen. Its turns count as attempts.
 */
export async function giveUp(unit: Unit, { no, leaseUntil }: DeadWorker, now: number, maxAttempts: number): Promise<void> {
  const [worker] = await unit.sql.query<{ id: string; lease_until: number }>(
    `SELECT id, lease_until FROM gb.workers WHERE no = $1 FOR UPDATE SKIP LOCKED`,
    [no],
  );
  if (worker === undefined || worker.lease_until > leaseUntil) return;
  await release(unit, no, now, { worker: worker.id, maxAttempts });
}

export async function leave(unit: Unit, { worker, now }: { worker: string; now: number }): Promise<void> {
  const [row] = await unit.sql.query<{ no: number }>(`SELECT no FROM gb.workers WHERE id = $1 FOR UPDATE`, [worker]);
  if (row !== undefined) await release(unit, row.no, now, undefined);
}

/** Everything that a worker held becomes free. `crash`: it did not go by itself, so its turns count as attempts. */
async function release(unit: Unit, worker: number, now: number, crash: { worker: string; maxAttempts: number } | undefined): Promise<void> {
  const runs = await unit.runs.select(
    `WHERE no = ANY(ARRAY(${inHand("$1")})) AND state + 0 = 1 AND worker + 0 = $1 ORDER BY no FOR UPDATE`,
    [worker],
  );
  for (const run of runs) {
    unit.names.dropRun(run.id, run.epoch);
    if (run.cancel === 1) {
      await endRun(unit, run, RUN.cancelled, { value: undefined, error: cancelled(run.id) }, now);
      continue;
    }
    const attempts = run.attempts + (crash === undefined ? 0 : 1);
    const held = crash !== undefined && attempts >= crash.maxAttempts;
    const state = held ? RUN.held : RUN.runnable;
    unit.runs.change(run, { state, worker: null, attempts });
    if (held) unit.setOutcome(run.no, { output: null, error: errorText(poison(run.id, attempts, crash.worker)) });
    unit.tallies.move(RUNS, RUN.running, state);
  }
  await unit.sql.run(`UPDATE gb.batches SET worker = NULL WHERE state <= 4 AND worker = $1`, [worker]);
  await unit.sql.run(`DELETE FROM gb.hands WHERE worker = $1`, [worker]);
  await unit.sql.run(`DELETE FROM gb.roles WHERE worker = $1`, [worker]);
  await unit.sql.run(`DELETE FROM gb.workers WHERE no = $1`, [worker]);
}

export async function holdFlush(unit: Unit, { producer, until }: { producer: string; until: number }): Promise<void> {
  if (until <= 0) await unit.sql.run(`DELETE FROM gb.producers WHERE id = $1`, [producer]);
  else {
    await unit.sql.run(`INSERT INTO gb.producers (id, until) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET until = excluded.until`, [
      producer,
      until,
    ]);
  }
}
