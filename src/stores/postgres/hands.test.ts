import { expect, it } from "vitest";
import { SchemaOfTest } from "../../../test/support/postgres-schemas.ts";
import { leaseMs, newRun, request, StoreKit, succeeded } from "../../testing/store-kit.ts";

const schema = new SchemaOfTest();

const openKit = async (): Promise<StoreKit> => new StoreKit(await schema.open());
const hands = async (): Promise<number[]> =>
  (await schema.query<{ runs: number }>(`SELECT cardinality(runs) AS runs FROM hands ORDER BY no`)).map(({ runs }) => runs);

it("a hand is there until the last of its runs was given back, and goes with the next heartbeat", async () => {
  const kit = await openKit();
  await kit.beat("w1");
  await kit.start(newRun("a"), newRun("b"), newRun("c"));
  const [first, second] = await kit.claim(2);
  const [third] = await kit.claim(2);
  expect(await hands()).toEqual([2, 1]);

  await kit.commit(first!, { entries: [request("q")], outcome: { type: "waiting" } });
  await kit.commit(third!, { outcome: { type: "completed", output: "1" } });
  await kit.beat("w1");
  expect(await hands()).toEqual([2]);

  // It stays in hand, whatever was written of it.
  await kit.commit(second!, { entries: [request("q")], outcome: { type: "running" } });
  await kit.beat("w1");
  expect(await hands()).toEqual([2]);

  await kit.commit(second!, { firstNo: 1, outcome: { type: "waiting" } });
  await kit.beat("w1");
  expect(await hands()).toEqual([]);
});

it("a run that goes on with its answer is in a hand, too", async () => {
  const kit = await openKit();
  const other = kit.on(await schema.open());
  await kit.beat("w1");
  const ids = ["a", "b", "c"];
  for (const id of ids) await kit.waiting(id, [request("q")]);
  const batch = await kit.routing("b1");
  await kit.beat("w1");
  expect(await hands()).toEqual([]);
  const rows = (await kit.members("b1")).map((row, i) => ({ ...row, result: succeeded("x"), ...(i > 0 && { keptEpoch: 1 }) }));
  const settled = await kit.settle(batch, rows, { worker: "w1" });
  expect(settled?.resumed?.map(({ row }) => row)).toEqual([1, 2]);
  expect(await hands()).toEqual([2]);

  // Whoever finds that its worker is dead finds it there.
  other.now = kit.now += leaseMs + 1;
  await other.beat("w2");
  expect(await hands()).toEqual([]);
  expect((await other.claim(9, "w2")).map(({ id, attempts }) => [id, attempts])).toEqual([
    ["a", 0],
    ["b", 1],
    ["c", 1],
  ]);
});

it("a turn that comes too late says nothing of the run that is in the same hands again", async () => {
  const kit = await openKit();
  const other = kit.on(await schema.open());
  await kit.beat("w1");
  await kit.start(newRun("a"));
  const late = await kit.claimOne();
  other.now = kit.now += leaseMs + 1;
  await other.beat("w2");
  await kit.beat("w1");
  await kit.claimOne();
  expect(await kit.commit(late, { outcome: { type: "completed", output: "1" } })).toMatchObject({ state: "lost" });
  await kit.beat("w1");

  other.now = kit.now += leaseMs + 1;
  await other.beat("w2");
  expect(await kit.run("a")).toMatchObject({ state: "runnable", attempts: 2 });
  expect(await hands()).toEqual([]);
});

it("no index mentions what an answer or a turn that waits changes, in its columns or in its condition", async () => {
  await openKit();
  const changing = new Set([
    "state",
    "worker",
    "seq",
    "open",
    "entries",
    "attempts",
    "code",
    "reserved",
    "answer",
    "usd",
    "standard_usd",
    "unpriced",
  ]);
  const mentioned = await schema.query<{
    column: string;
  }>(`SELECT DISTINCT a.attname::text AS column FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'i'
     JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid WHERE d.refobjid IN ('runs'::regclass, 'entries'::regclass)`);
  const columns = mentioned.map(({ column }) => column);
  expect(columns).toEqual(expect.arrayContaining(["queue", "lane", "batch", "retry_at"]));
  expect(columns.filter((column) => changing.has(column))).toEqual([]);
});
