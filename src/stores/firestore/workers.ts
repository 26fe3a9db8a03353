import type { RoleWish, WorkerIdentity } from "../../core/store.ts";
import { RUN } from "../codes.ts";
import { RUNS } from "../counts.ts";
import { cancelled, poison } from "../run-errors.ts";
import type { Data, Database } from "./database.ts";
import { digest } from "./keys.ts";
import { specs, workerKey, type WorkerRow } from "./rows.ts";
import { endRun, ensureWorker, setOutcome } from "./runs.ts";
import type { Unit } from "./unit.ts";
import { expandRow } from "./working-set.ts";

/** Workers that one heartbeat gives up at most; the next one goes on. */
const DEAD_LIMIT = 20;
/** Claims that one transaction gives back. */
const RELEASE_CHUNK = 100;

/** Renews the lease. Returns what leases are compared with. */
export async function renew(
  unit: Unit,
  { worker, now, leaseMs }: { worker: WorkerIdentity; now: number; leaseMs: number },
): Promise<number> {
  const no = workerKey(worker.id);
  await unit.load({ workers: [no] });
  const time = unit.leaseNow(now);
  const found = unit.workers.peek(no);
  const row = { host: worker.host, pid: worker.pid, lease_until: time + leaseMs };
  if (found === undefined) unit.workers.add({ no, id: worker.id, ...row });
  else unit.workers.change(found, row);
  return time;
}

/** Workers whose lease is over, and those of this host whose process is gone. */
export async function findDead(
  database: Database,
  worker: WorkerIdentity,
  leaseNow: number,
  isAlive: (pid: number) => boolean,
): Promise<WorkerRow[]> {
  const toRow = ({ data }: { data: Data }): WorkerRow => expandRow(specs.workers, data["d"] as Data);
  const [late, near] = await Promise.all([
    database.find({ from: "workers", where: [["lease_until", "<=", leaseNow]], order: [["lease_until", "asc"]], limit: DEAD_LIMIT }),
    database.find({ from: "workers", where: [["host", "==", worker.host]], limit: DEAD_LIMIT }),
  ]);
  const gone = near.map(toRow).filter(({ pid }) => pid !== worker.pid && !isAlive(pid));
  const dead = new Map([...late.map(toRow), ...gone].map((row) => [row.no, row]));
  dead.delete(workerKey(worker.id));
  return [...dead.values()];
}

/** Gives each wanted role to this worker: an exclusive one unless another has it; dead holders have been removed before. */
export async function takeRoles(unit: Unit, worker: string, wishes: readonly RoleWish[], held: readonly string[]): Promise<string[]> {
  const exclusive = wishes.flatMap(({ name, exclusive: alone }) => (alone ? [name] : []));
  await unit.load({ roles: [...held, ...exclusive].map(digest), workers: [workerKey(worker)] });
  const key = await ensureWorker(unit, worker);
  for (const role of held) {
    if (!exclusive.includes(role) && unit.roles.peek(digest(role))?.worker === key) unit.roles.remove(digest(role));
  }
  const mine = new Set<string>();
  for (const role of exclusive) {
    const found = unit.roles.peek(digest(role));
    if (found === undefined) unit.roles.add({ no: digest(role), role, worker: key });
    if (found === undefined || found.worker === key) mine.add(role);
  }
  return wishes.filter(({ name, exclusive: alone }) => !alone || mine.has(name)).map(({ name }) => name);
}

/** Names of the roles that a worker holds. */
export async function heldRoles(database: Database, worker: string): Promise<string[]> {
  const found = await database.find({ from: "roles", where: [["worker", "==", worker]] });
  return found.map(({ data }) => (data["d"] as { role: string }).role);
}

/** A worker that did not go by itself: the lease that it was last seen with, and the attempts after which a run is held. */
export interface Crash {
  leaseUntil: number;
  maxAttempts: number;
}

/**
 * Gives a worker up, portion by portion: first its lease ends for good, so that it claims nothing more, then everything that it held becomes free, then it is gone. `crash`: unless it has renewed its lease since, and its
 * turns count as attempts. Whoever finds it half done goes on.
 */
export async function giveUp(database: Database, worker: string, now: number, crash: Crash | undefined): Promise<void> {
  while (!(await giveUpSome(database, worker, now, crash)));
}

async function giveUpSome(database: Database, worker: string, now: number, crash: Crash | undefined): Promise<boolean> {
  return database.write(async (unit) => {
    const row = await unit.workers.get(worker);
    if (row === undefined || (crash !== undefined && row.lease_until > crash.leaseUntil)) return true;
    // After the look at the worker: whoever claims for it writes nothing of it, but reads it, and comes to nothing if it is gone by then.
    const runs = await unit.runs.select(
      { where: [["worker", "==", worker]], limit: RELEASE_CHUNK },
      (run) => run.state === RUN.running && run.worker === worker,
    );
    const batches = await unit.batches.select(
      { where: [["worker", "==", worker]], limit: RELEASE_CHUNK },
      (batch) => batch.worker === worker,
    );
    const roles = await unit.roles.select({ where: [["worker", "==", worker]], limit: RELEASE_CHUNK }, (role) => role.worker === worker);
    for (const run of runs) {
      if (run.cancel === 1) {
        await endRun(unit, run, RUN.cancelled, { value: undefined, error: cancelled(run.id) }, now);
        continue;
      }
      const attempts = run.attempts + (crash === undefined ? 0 : 1);
      const held = crash !== undefined && attempts >= crash.maxAttempts;
      const state = held ? RUN.held : RUN.runnable;
      unit.runs.change(run, { state, worker: null, attempts });
      if (held) setOutcome(unit, run, { output: null, error: poison(run.id, attempts, row.id) });
      unit.tallies.move(RUNS, RUN.running, state);
    }
    for (const batch of batches) unit.batches.change(batch, { worker: null });
    for (const role of roles) unit.roles.remove(role.no);
    const isLast = [runs, batches, roles].every(({ found }) => found < RELEASE_CHUNK);
    if (isLast) unit.workers.remove(worker);
    else unit.workers.change(row, { lease_until: 0 });
    return isLast;
  });
}

export async function holdFlush(unit: Unit, { producer, until }: { producer: string; until: number }): Promise<void> {
  const no = digest(producer);
  const found = await unit.producers.get(no);
  if (until <= 0) unit.producers.remove(no);
  else if (found === undefined) unit.producers.add({ no, until });
  else unit.producers.change(found, { until });
}
