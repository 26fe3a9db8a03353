import { createTestKit, type TestKit, type TestKitOptions } from "../../src/testing.ts";

/** A kit with one chain that asks one prompt per run. */
export function singleKit(options: TestKitOptions = {}) {
  const kit = createTestKit(options);
  const chain = kit.gembatch.chain(
    "single",
    async ({ models }, text: string) => (await models.generateContent({ model: "gemini-2.5-flash", contents: text })).text,
  );
  const start = async (count: number) => Promise.all(Array.from({ length: count }, async (_, n) => chain.start(`p${n}`, { id: `r${n}` })));
  return { kit, chain, start };
}

/** Rows of every job that was created, in the order of creation. */
export const sizes = (kit: TestKit): number[] => kit.provider.jobs.map(({ rows }) => rows.length);
