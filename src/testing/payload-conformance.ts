/**
 * What every payload store must do, as tests that run in any test framework.
 *
 * @module
 */
import { GembatchError } from "../core/errors.ts";
import { newPayloadKey, type PayloadStore } from "../core/payload-store.ts";
import type { TestFunctions } from "./provider-conformance.ts";
import { SeededRandom } from "./seeded-random.ts";

export interface PayloadStoreSetup {
  /** Shown in the name of the suite. */
  name: string;
  create(): Promise<PayloadStoreSubject>;
}

export interface PayloadStoreSubject {
  /** Empty. */
  store: PayloadStore;
  /** Another store on the same data, as a second process has it; the suite closes it. */
  peer(): Promise<PayloadStore>;
  /** Keys of everything that is there, in any order. */
  keys(): Promise<string[]>;
  /** From now on nothing can be read or written. */
  break(): Promise<void>;
  dispose(): Promise<void>;
}

interface Context extends PayloadStoreSubject {
  /** New keys, of two stores and three days. */
  newKey(): string;
}

const signs = 'é 日本 \u{1f600} \u0000 " \\ \r\n \u2028 <&>';

/** Registers the suite. */
export function testPayloadStore({ describe, it, expect }: TestFunctions, setup: PayloadStoreSetup): void {
  const check = (name: string, body: (context: Context) => Promise<void>): void => {
    it(name, async () => {
      const subject = await setup.create();
      const random = new SeededRandom(1);
      let keys = 0;
      const newKey = (): string => {
        keys += 1;
        return newPayloadKey(`Store-${keys % 2}_x`, (keys % 3) * 86_400_000, random);
      };
      try {
        await body({ ...subject, newKey });
      } finally {
        await subject.store.close?.();
        await subject.dispose();
      }
    });
  };
  const failure = async (call: Promise<unknown>): Promise<unknown> =>
    call.then(
      () => "no error",
      (error: unknown) => (GembatchError.is(error) ? [error.code, error.retryable] : error),
    );
  const missing = ["payload_missing", false];
  const unavailable = ["payload_unavailable", true];

  describe(`${setup.name} as a payload store`, () => {
    check("has a name", async ({ store }) => {
      expect(typeof store.name === "string" && store.name !== "").toBe(true);
    });

    check("gives back every text, of any size and with any signs", async ({ store, newKey }) => {
      const texts = ["", "x", '{"text":"short"}', signs, signs.repeat(30_000), "y".repeat(5_000_000)];
      const keys = texts.map(newKey);
      for (const [index, key] of keys.entries()) await store.put(key, texts[index]!);
      for (const [index, key] of keys.entries()) expect((await store.get(key)) === texts[index]).toBe(true);
    });

    check("shows a text to everybody as soon as it is there", async ({ store, peer, newKey }) => {
      const other = await peer();
      const [one, two] = [newKey(), newKey()];
      await store.put(one, "one");
      expect(await other.get(one)).toBe("one");
      await other.put(two, "two");
      expect(await store.get(two)).toBe("two");
      await other.delete([one]);
      expect(await failure(store.get(one))).toEqual(missing);
      await other.close?.();
    });

    check("says that a key is missing, and goes on", async ({ store, newKey }) => {
      const [key, other] = [newKey(), newKey()];
      await store.put(key, "text");
      expect(await failure(store.get(other))).toEqual(missing);
      expect(await store.get(key)).toBe("text");
    });

    check("takes a text again", async ({ store, newKey, keys }) => {
      const key = newKey();
      await store.put(key, "text");
      await Promise.all([store.put(key, "text"), store.put(key, "text")]);
      expect(await store.get(key)).toBe("text");
      expect(await keys()).toEqual([key]);
    });

    check("never gives part of a text while it is written", async ({ store, peer, newKey }) => {
      const other = await peer();
      await store.put(newKey(), "another");
      const text = "z".repeat(2_000_000);
      const key = newKey();
      let written = false;
      const writing = store.put(key, text).finally(() => (written = true));
      const seen = new Set<unknown>();
      while (!written)
        seen.add(
          await other.get(key).then(
            (got) => got === text,
            async (error: unknown) => failure(Promise.reject(error as Error)),
          ),
        );
      await writing;
      for (const what of seen) if (what !== true) expect(what).toEqual(missing);
      expect((await other.get(key)) === text).toBe(true);
      await other.close?.();
    });

    check("keeps many that are written and read side by side apart", async ({ store, newKey, keys }) => {
      const items = Array.from({ length: 200 }, (_, n) => ({ key: newKey(), text: `${n}`.repeat(n + 1) }));
      await Promise.all(items.map(async ({ key, text }) => store.put(key, text)));
      expect(await Promise.all(items.map(async ({ key }) => store.get(key)))).toEqual(items.map(({ text }) => text));
      expect((await keys()).toSorted()).toEqual(items.map(({ key }) => key).toSorted());
    });

    check("removes what it is told to and nothing else, and again without a word", async ({ store, newKey, keys }) => {
      const all = Array.from({ length: 12 }, newKey);
      for (const key of all) await store.put(key, key);
      const removed = all.filter((_, n) => n % 3 !== 0);
      await store.delete([...removed, newKey()]);
      await store.delete(removed);
      await store.delete([]);
      for (const key of removed) expect(await failure(store.get(key))).toEqual(missing);
      const kept = all.filter((key) => !removed.includes(key));
      expect((await keys()).toSorted()).toEqual(kept.toSorted());
      for (const key of kept) expect(await store.get(key)).toBe(key);
      await store.put(removed[0]!, "again");
      expect(await store.get(removed[0]!)).toBe("again");
    });

    check("removes more than a thousand at once", async ({ store, newKey, keys }) => {
      const all = Array.from({ length: 1_005 }, newKey);
      for (let from = 0; from < all.length; from += 67) {
        await Promise.all(all.slice(from, from + 67).map(async (key) => store.put(key, "x")));
      }
      await store.delete(all);
      expect(await keys()).toEqual([]);
    });

    check("tells what cannot be reached from what is missing", async ({ store, newKey, break: breakDown }) => {
      const key = newKey();
      await store.put(key, "text");
      await breakDown();
      expect(await failure(store.get(key))).toEqual(unavailable);
      expect(await failure(store.get(newKey()))).toEqual(unavailable);
      expect(await failure(store.put(newKey(), "text"))).toEqual(unavailable);
    });

    check("writes nothing for a signal that is aborted already", async ({ store, newKey, keys }) => {
      const result = await failure(store.put(newKey(), "text", AbortSignal.abort()));
      expect(result).toEqual(unavailable);
      expect(await keys()).toEqual([]);
    });
  });
}
