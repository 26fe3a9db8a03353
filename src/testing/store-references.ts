/** What removal says of payloads that lie elsewhere. */
import { referencePrefix, writeReference } from "../core/payload-store.ts";
import type { Store } from "../core/store.ts";
import { child, failed, failure, newRun, request, step, usage, type StoreKit } from "./store-kit.ts";
import type { StoreSuite } from "./store-suite.ts";

/** The n-th reference: what a row holds of a payload that lies elsewhere. */
const ref = (n: number): string => writeReference({ key: `store/2026-01-01/${`${n}`.padStart(26, "0")}`, bytes: n });
const ended = (output: string) => ({ type: "completed" as const, output });

/** What is gone with everything that ended before now, or with what `over` says; in order. */
async function gone(kit: StoreKit, over: Partial<Parameters<Store["removeEnded"]>[0]> = {}): Promise<number[]> {
  const { now } = kit;
  const all = { completed: now, failed: now, cancelled: now };
  const { references } = await kit.store.removeEnded({ now, limit: 100, runs: all, referencePrefix, ...over });
  const numbers = references.map((text) => Array.from({ length: 20 }, (_, n) => n).find((n) => ref(n) === text) ?? -1);
  return numbers.toSorted((a, b) => a - b);
}

export function testReferences({ describe, check, expect }: StoreSuite): void {
  describe("references that go with what is removed", () => {
    check(
      "input, prompts, answers, steps and output of a run, and nothing that is none",
      async ({ kit, store }) => {
        await kit.waiting("a", [request("q", { body: ref(2) }), request("small"), step("s", ref(3)), step("t", `"${"x".repeat(100)}"`)], {
          input: ref(1),
        });
        const batch = await kit.routing("b");
        const [first, second] = await kit.members("b");
        await kit.settle(batch, [
          { ...first!, result: { type: "succeeded", value: ref(4), usage } },
          { ...second!, result: failed("no") },
        ]);
        await kit.commit(await kit.claimOne(), { firstNo: 4, outcome: ended(ref(5)) });
        await kit.start(newRun("lives", { input: ref(6) }));
        kit.now += 1;
        expect((await store.loadHistory({ runs: [{ run: "a", since: 0 }] }))[0]?.[0]?.value).toBe(ref(4));
        expect(await gone(kit)).toEqual([1, 2, 3, 4, 5]);
        expect(await gone(kit)).toEqual([]);
      },
      "references",
    );

    check("are not told to whoever gives no prefix, nor those that begin otherwise", async ({ kit }) => {
      for (const [id, input] of [
        ["a", ref(1)],
        ["b", '{"other":1}'],
      ] as const) {
        await kit.start(newRun(id, { input }));
        await kit.commit(await kit.claimOne(), { outcome: ended("1") });
        kit.now += 1;
      }
      expect(await gone(kit, { limit: 1, referencePrefix: undefined })).toEqual([]);
      expect(await gone(kit)).toEqual([]);
    });

    check(
      "a history's go with it, and those of input and output with the run",
      async ({ kit }) => {
        await kit.start(newRun("a", { input: ref(1) }));
        await kit.commit(await kit.claimOne(), { entries: [step("s", ref(2))], outcome: ended(ref(3)) });
        kit.now += 1;
        expect(await gone(kit, { runs: {}, histories: kit.now })).toEqual([2]);
        expect(await gone(kit)).toEqual([1, 3]);
      },
      "references",
    );

    check(
      "an output lives on in the history of whoever waited for it, and there last",
      async ({ kit, store }) => {
        await kit.start(newRun("parent"), newRun("other"));
        for (const run of await kit.claim()) {
          const start = newRun("kid", { parent: { run: run.id, key: "c" } });
          await kit.commit(run, { entries: [child("c"), request("q")], starts: [start] });
        }
        await kit.commit(await kit.claimOne(), { outcome: ended(ref(1)) });
        expect([(await kit.history("parent"))[0]?.value, (await kit.history("other"))[0]?.value]).toEqual([ref(1), ref(1)]);
        await store.cancelRuns({ now: kit.now, ids: ["parent", "other"] });
        const runs = await kit.claim();
        for (const run of runs) await kit.commit(run, { firstNo: 2, outcome: { type: "failed", error: failure("f") } });
        kit.now += 1;
        // Oldest first: the child goes, then one of those that waited, then the other.
        expect(await gone(kit, { limit: 1 })).toEqual([]);
        expect(await gone(kit, { limit: 1 })).toEqual([]);
        expect(await gone(kit, { limit: 1 })).toEqual([1]);
        expect((await store.listRuns({})).items).toEqual([]);
      },
      "references",
    );

    check(
      "an output lives on in its run when the history of whoever waited for it goes",
      async ({ kit, store }) => {
        await kit.start(newRun("kid"));
        await kit.commit(await kit.claimOne(), { outcome: ended(ref(1)) });
        await kit.start(newRun("late"));
        const starts = [newRun("kid", { parent: { run: "late", key: "c" } })];
        await kit.commit(await kit.claimOne(), { entries: [child("c")], starts });
        kit.now += 1_000;
        await kit.commit(await kit.claimOne(), { firstNo: 1, outcome: ended(ref(1)) });
        kit.now += 1;
        expect((await kit.history("late"))[0]?.value).toBe(ref(1));
        expect(await gone(kit, { runs: {}, histories: kit.now })).toEqual([]);
        expect(await gone(kit, { runs: { completed: kit.now - 500 } })).toEqual([]);
        expect((await store.getRuns({ ids: ["kid"] }))[0]).toBe(undefined);
        expect(await gone(kit)).toEqual([1]);
      },
      "references",
    );

    check(
      "a shared answer's goes with the last that has it",
      async ({ kit }) => {
        const cached = (n: number) => request("q", { body: ref(n), cache: { key: "same", ttlMs: 1_000 } });
        const handler = (id: string, n: number) => newRun(id, { kind: "handler", request: cached(n) });
        await kit.start(handler("a", 1), handler("b", 2));
        await kit.answer(await kit.routing("batch"), { type: "succeeded", value: ref(3), usage });
        for (const run of await kit.claim()) await kit.commit(run, { firstNo: 1, outcome: ended("1") });
        kit.now += 1;
        expect(await gone(kit)).toEqual([1, 2]);
        expect(await gone(kit)).toEqual([]);
        kit.now += 1_000;
        expect(await gone(kit)).toEqual([3]);
      },
      "references",
    );
  });
}
