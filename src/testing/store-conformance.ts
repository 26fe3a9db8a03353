/**
 * What every store must do, as tests that run in any test framework: each method of the Store port with its conditions, what must hold
 * when calls repeat, come late or race, and that nothing is lost on a random walk. This suite is the meaning of the port.
 *
 * @module
 */
import type { TestFunctions } from "./provider-conformance.ts";
import { testAfresh } from "./store-afresh.ts";
import { testBatches } from "./store-batches.ts";
import { testEnds } from "./store-ends.ts";
import { StoreKit } from "./store-kit.ts";
import { testLists } from "./store-lists.ts";
import { testMoney } from "./store-money.ts";
import { testOperating } from "./store-operating.ts";
import { testRemoval } from "./store-removal.ts";
import { testResuming } from "./store-resuming.ts";
import { testRetries } from "./store-retries.ts";
import { testRouting } from "./store-routing.ts";
import { testRuns } from "./store-runs.ts";
import { testShapes } from "./store-shapes.ts";
import { testShared } from "./store-shared.ts";
import { expectConservation, type StoreSetup, type StoreSuite } from "./store-suite.ts";
import { testSweeps } from "./store-sweeps.ts";
import { testTiers } from "./store-tiers.ts";
import { testTurns } from "./store-turns.ts";
import { testWalk } from "./store-walk.ts";
import { testWorkers } from "./store-workers.ts";

export type { StoreSetup, StoreSubject } from "./store-suite.ts";

/** Registers the suite. */
export function testStore({ describe, it, expect }: TestFunctions, setup: StoreSetup): void {
  const check: StoreSuite["check"] = (name, body, needs) => {
    const reason = needs && setup.without?.[needs];
    if (reason !== undefined) {
      it(`${name} (left out: ${reason})`, async () => undefined);
      return;
    }
    it(name, async () => {
      const subject = await setup.createStore();
      try {
        const kit = new StoreKit(subject.store);
        await kit.beat();
        await body({ kit, store: subject.store, subject });
        if (needs !== "reopening") await expectConservation(subject.store, expect);
      } finally {
        await subject.dispose();
      }
    });
  };
  const rejects: StoreSuite["rejects"] = async (promise) => {
    const rejected = await promise.then(
      () => false,
      () => true,
    );
    expect(rejected).toBe(true);
  };
  const suite: StoreSuite = { describe, expect, check, rejects };
  describe(`${setup.name} as a store`, () => {
    testWorkers(suite);
    testRuns(suite);
    testTurns(suite);
    testEnds(suite);
    testBatches(suite);
    testRouting(suite);
    testResuming(suite);
    testRetries(suite);
    testTiers(suite);
    testShapes(suite);
    testMoney(suite);
    testShared(suite);
    testSweeps(suite);
    testOperating(suite);
    testAfresh(suite);
    testRemoval(suite);
    testLists(suite);
    testWalk(suite, setup.walks);
  });
}
