import { afterAll, describe, expect, it } from "vitest";
import { Schemas } from "../../../test/support/postgres-schemas.ts";
import { subjectOf } from "../../../test/support/store-subject.ts";
import { testStore } from "../../testing/store-conformance.ts";
import { isThorough } from "../../../test/support/thorough.ts";

testPostgres("Postgres", true);
testPostgres("Postgres, on a pool that waits for each answer", false);

function testPostgres(name: string, pipeline: boolean): void {
  const schemas = new Schemas({ pipeline });
  afterAll(() => schemas.end());

  testStore(
    // Side by side: each waits for the server half of its time.
    { describe, it: it.concurrent, expect },
    {
      name,
      walks: isThorough ? 4 : pipeline ? 2 : 1,
      async createStore() {
        const schema = await schemas.take();
        return subjectOf({ open: async () => schemas.open(schema), dispose: async () => schemas.giveBack(schema) });
      },
    },
  );
}
