import { expect, it } from "vitest";
import { describeFirestore, newClient, openStore } from "../../../test/support/firestore-store.ts";
import { digestRuns, StoreKit } from "../../testing/store-kit.ts";
import { expectConservation, spentBy } from "../../testing/store-suite.ts";
import { isThorough } from "../../../test/support/thorough.ts";
import { Walk } from "../../testing/store-walker.ts";

/** The walks of the conformance suite with a look at everything after many steps instead of each: a look takes this store some 50 ms. */
describeFirestore("a random walk on Firestore", () => {
  const seeds = isThorough ? [1, 2, 3, 4, 5, 6, 7, 8] : [1, 5];
  it.concurrent.each(seeds.map((seed) => ({ seed, forgets: seed > 4 })))(
    "nothing is lost, all runs end, the money adds up (seed $seed, forgets: $forgets)",
    async ({ seed, forgets }) => {
      const client = newClient();
      const store = await openStore(client);
      try {
        const kit = new StoreKit(store);
        await kit.beat("w1");
        await kit.beat("w2");
        const walk = new Walk(kit, seed, forgets);
        for (let i = 0; i < 250; i += 1) {
          await walk.step();
          if (i % 50 === 49) await expectConservation(store, expect);
        }
        expect(await walk.drain()).toBe(undefined);
        expect(await store.activeBatches()).toEqual([]);
        await expectConservation(store, expect);
        for (const run of (await store.listRuns({ limit: 1_000 })).items) {
          const numbers = (await kit.history(run.id)).flatMap(({ seq }) => seq ?? []);
          expect([run.id, new Set(numbers).size]).toEqual([run.id, numbers.length]);
        }
        const { runnable, lanes, nextDeadlineAt } = await store.activity({ now: kit.now, chains: digestRuns });
        expect([runnable, lanes, nextDeadlineAt]).toEqual([false, [], undefined]);
        if (forgets) return;
        const { requests, runs, batches, days } = await spentBy(store);
        expect([requests, runs, batches, days.usd > 0]).toEqual([days, days, days, true]);
      } finally {
        await store.close();
        await client.terminate();
      }
    },
    120_000,
  );
});
