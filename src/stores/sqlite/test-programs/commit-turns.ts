/** Starts runs and commits turns as fast as it can, says each one that is acknowledged, until it is killed. */
import { SqliteStore } from "../store.ts";

const store = new SqliteStore({ path: process.argv[2] ?? "" });
await store.open();
const worker = process.argv[3] ?? "w";
const lane = { provider: "test", model: "m", method: "generateContent" as const };
await store.heartbeat({ worker: { id: worker, host: "h", pid: process.pid }, now: 1, leaseMs: 1e9, roles: [], maxAttempts: 99 });
const request = { lane, body: JSON.stringify("x".repeat(500)), bytes: 500, tokens: 100, priority: 0, maxAttempts: 3 };

for (let round = 0; ; round += 1) {
  const ids = Array.from({ length: 5 }, (_, i) => `${worker}-${round}-${i}`);
  await store.startRuns({
    now: round,
    runs: ids.map((id) => ({ id, kind: "chain", chain: worker, version: "1", input: "1", fingerprint: "f", priority: 0 })),
  });
  const runs = await store.claimRuns({ worker, now: round, limit: 5, chains: [{ chain: worker, versions: ["1"] }] });
  const turns = runs.map((run) => ({
    run: run.id,
    epoch: run.epoch,
    seen: 0,
    firstNo: 0,
    entries: [{ key: "q", kind: "request" as const, fingerprint: "f", request }],
    starts: [],
    code: "c",
    notes: [],
    outcome: { type: "waiting" as const },
  }));
  await store.commitTurns({ worker, now: round, turns });
  process.stdout.write(`${runs.map(({ id }) => id).join(" ")}\n`);
}
