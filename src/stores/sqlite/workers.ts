import type { RoleWish, WorkerIdentity } from "../../core/store.ts";
import { RUN } from "../codes.ts";
import { cancelled, poison } from "../run-errors.ts";
import type { Database } from "./database.ts";
import { type EndingRun, endRun, storeOutcome } from "./runs.ts";
import { RUNS } from "../counts.ts";

export function heartbeat(
  db: Database,
  params: { worker: WorkerIdentity; now: number; leaseMs: number; roles: RoleWish[]; maxAttempts: number },
  isAlive: (pid: number) => boolean,
): { roles: string[] } {
  const { worker, now } = params;
  db.sql(`
    INSERT INTO workers (id, host, pid, lease_until) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET host = excluded.host, pid = excluded.pid, lease_until = excluded.lease_until`).run(
    worker.id,
    worker.host,
    worker.pid,
    now + params.leaseMs,
  );
  const others = db.sql(`SELECT no, id, host, pid, lease_until FROM workers WHERE id <> ?`).all(worker.id) as {
    no: number;
    id: string;
    host: string;
    pid: number;
    lease_until: number;
  }[];
  for (const other of others) {
    const isGone = other.host === worker.host && other.pid !== worker.pid && !isAlive(other.pid);
    if (other.lease_until <= now || isGone) release(db, other.no, now, { worker: other.id, maxAttempts: params.maxAttempts });
  }
  return {
    roles: takeRoles(
      db,
      db.names.workerNo(worker.id) as number,
      params.roles.map(({ name }) => name),
    ),
  };
}

export function leave(db: Database, { worker, now }: { worker: string; now: number }): void {
  const no = db.names.workerNo(worker);
  if (no !== undefined) release(db, no, now, undefined);
}

/** On one machine every role is exclusive. Gives each wanted one to this worker unless another one has it; dead holders have been removed before. */
function takeRoles(db: Database, worker: number, wanted: readonly string[]): string[] {
  for (const { role } of db.sql(`SELECT role FROM roles WHERE worker = ?`).all(worker) as { role: string }[]) {
    if (!wanted.includes(role)) db.sql(`DELETE FROM roles WHERE role = ?`).run(role);
  }
  return wanted.filter((role) => {
    db.sql(`INSERT INTO roles (role, worker) VALUES (?, ?) ON CONFLICT (role) DO NOTHING`).run(role, worker);
    return db.sql(`SELECT worker FROM roles WHERE role = ?`).get(role)?.["worker"] === worker;
  });
}

/** Everything that a worker held becomes free. `crash`: it did not go by itself, so its turns count as attempts. */
function release(db: Database, worker: number, now: number, crash: { worker: string; maxAttempts: number } | undefined): void {
  const runs = db
    .sql(`SELECT no, id, state, open, parent, shared, cancel, attempts FROM runs WHERE state = 1 AND worker = ?`)
    .all(worker) as unknown as (EndingRun & { cancel: number; attempts: number })[];
  for (const run of runs) {
    db.names.dropRun(run.id);
    if (run.cancel === 1) {
      endRun(db, run, RUN.cancelled, { value: undefined, error: cancelled(run.id) }, now);
      continue;
    }
    const attempts = run.attempts + (crash === undefined ? 0 : 1);
    const held = crash !== undefined && attempts >= crash.maxAttempts;
    const state = held ? RUN.held : RUN.runnable;
    db.sql(`UPDATE runs SET state = ?, worker = NULL, attempts = ? WHERE no = ?`).run(state, attempts, run.no);
    if (held) storeOutcome(db, run.no, { value: undefined, error: poison(run.id, attempts, crash.worker) });
    db.tallies.move(RUNS, RUN.running, state);
  }
  db.sql(`UPDATE batches INDEXED BY batches_active SET worker = NULL WHERE state <= 4 AND worker = ?`).run(worker);
  db.sql(`DELETE FROM roles WHERE worker = ?`).run(worker);
  db.sql(`DELETE FROM workers WHERE no = ?`).run(worker);
}

export function holdFlush(db: Database, { producer, until }: { producer: string; until: number }): void {
  if (until <= 0) db.sql(`DELETE FROM producers WHERE id = ?`).run(producer);
  else {
    db.sql(`INSERT INTO producers (id, until) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET until = excluded.until`).run(producer, until);
  }
}
