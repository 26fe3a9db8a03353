import type { Comparison } from "./report.ts";

/** What a reader must know to read the table fairly. */
export function notes({ concurrency }: Pick<Comparison, "concurrency">): string {
  return `How to read it fairly:

* **Answers come in chunks, or one by one.** gembatch's chains wait for prompts, and a batch job brings many answers at once: a provider in the same process ends each job at its first look. The other
  durable systems have no call that answers many waits, so theirs are answered one by one, ${concurrency} at a time. Most of the distance on *suspend* is this. It is also what gembatch is for.
* **gembatch sends a prompt through the official SDK's types and objects**; the others pass a short string.
* **gembatch groups**: turns of many runs are committed by one transaction, every step still stored before the next begins. Its worker has its default
  concurrency (2,048 turns), and looks for ended jobs as often as it can. It starts chains by one call (\`startMany\`), as pg-boss and graphile-worker do; the others have no such call, and start ${concurrency} at a time.
* **Not suspended in the same sense.** openworkflow and absurd leave memory at each wait: an answer is sent when the suspension is stored. DBOS keeps waiting workflows in memory, and so does
  Restate within its inactivity timeout (a minute); an answer may reach them before they have begun to wait. gembatch stores the wait, keeps waiting turns in memory up to a limit, and replays the others.
* **pg-boss and graphile-worker are job queues**: no history, no code that goes on where it was. *Chain*: each job's handler sends the next job. *Suspend*: the handler ends, and the world outside sends the next job,
  each by one call. pg-boss fetches 500 jobs at a time and sends the next 500 by one insert, which is not in one transaction with the completion of the 500 before; graphile-worker uses its local queue and
  batched completion. Where answers come in chunks, a queue does what its *chain* figure says.
* **Restate** has a server and a storage of its own, one node with its defaults (the log is synced to disk), not Postgres; "server" is its process there.
* **Settings**: what each system documents for throughput, else its defaults. Polling intervals that cannot be set stay as they are; with all chains in flight they hardly show. absurd's SDK and schema are those of release 0.4.0.
* **Processor time** (of the client's process, and of all processes of the server) is less disturbed by neighbours than steps per second. On this machine client and server share the cores.
* **Empty claim**: openworkflow's worker sends one such call for each free slot and poll, absurd's one for all free slots, gembatch's one for up to 256 runs.`;
}
