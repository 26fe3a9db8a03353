import { expect, it } from "vitest";
import { SchemaOfTest } from "../../../test/support/postgres-schemas.ts";
import { newRun, StoreKit } from "../../testing/store-kit.ts";

const schema = new SchemaOfTest();

const runs = (from: number, count: number) => Array.from({ length: count }, (_, i) => newRun(`run-${from + i}`));

it("tables that a process fills are looked at, once for all processes, and again when they have grown", async () => {
  const known = async (): Promise<number> => {
    const [row] = await schema.query<{ known: number }>(`SELECT reltuples::int4 AS known FROM pg_class WHERE oid = 'runs'::regclass`);
    return row!.known;
  };
  const first = await schema.open();
  await new StoreKit(first).start(...runs(0, 1_000));
  await first.close();
  expect(await known()).toBe(1_000);

  const second = await schema.open();
  await new StoreKit(second).start(...runs(1_000, 1_000));
  await second.close();
  expect(await known()).toBe(1_000);

  const third = await schema.open();
  await new StoreKit(third).start(...runs(2_000, 4_000));
  await third.close();
  expect(await known()).toBeGreaterThan(5_000);
});
