import { describe, expect, it } from "vitest";
import { describeFirestore, newClient, openStore } from "../../../test/support/firestore-store.ts";
import { subjectOf } from "../../../test/support/store-subject.ts";
import type { TestFunctions } from "../../testing/provider-conformance.ts";
import { testStore } from "../../testing/store-conformance.ts";
import { declared } from "./indexes.ts";
import { isServed, serves } from "../../../test/support/firestore-indexes.ts";
import type { QueryShape } from "./store.ts";

const shapes = new Map<string, QueryShape>();

/** A walk looks at everything after each of its steps, some 10,000 times: `walk.test.ts` has walks with fewer looks. */
const except =
  (left: string, group: TestFunctions["describe"]): TestFunctions["describe"] =>
  (name, body) =>
    name === left ? undefined : group(name, body);

describeFirestore("Firestore's emulator", () => {
  testStore(
    // Side by side: each waits for the emulator most of its time.
    { it: it.concurrent, expect, describe: except("on a random walk", describe) },
    {
      name: "Firestore",
      async createStore() {
        const client = newClient();
        return subjectOf({
          open: async () => openStore(client),
          beforeClose: (store) => {
            if (!store.isOpen) return;
            for (const shape of store.queryShapes()) shapes.set(JSON.stringify(shape), shape);
          },
          dispose: async () => client.terminate(),
        });
      },
    },
  );

  // After all of the above.
  describe("the declared indexes", () => {
    it("serve every query that was made", () => {
      expect(shapes.size).toBeGreaterThan(20);
      expect([...shapes.values()].filter((shape) => !isServed(shape))).toEqual([]);
    });

    it("are all of use", () => {
      const all = Object.entries(declared).flatMap(([collection, indexes]) => indexes.map((fields) => ({ collection, fields })));
      const made = [...shapes.values()];
      expect(
        all.filter(({ collection, fields }) => !made.some((shape) => shape.collection === collection && serves(fields, shape))),
      ).toEqual([]);
    });
  });
});
