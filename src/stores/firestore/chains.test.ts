import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { newProject } from "../../../test/support/firestore-client.ts";
import { describeFirestore, newClient } from "../../../test/support/firestore-store.ts";
import { startEmulator } from "../../emulator.ts";
import { gemini } from "../../gemini.ts";
import { Gembatch } from "../../index.ts";
import { filePayloads } from "../../payloads.ts";
import { firestore } from "./store.ts";

const STEPS = 3;

describeFirestore("whole chains on Firestore", () => {
  it("of two processes' worth of workers end, and every prompt is asked once", async () => {
    const asked = new Map<string, number>();
    const emulator = await startEmulator({
      turnaround: 100,
      answer: (_request, { hash }) => {
        asked.set(hash, (asked.get(hash) ?? 0) + 1);
        return `answer ${hash}`;
      },
    });
    onTestFinished(() => emulator.close());
    const project = newProject();
    const process = () => {
      const client = newClient(project);
      const gembatch = new Gembatch({
        store: firestore({ firestore: client }),
        provider: gemini({ apiKey: "key", baseUrl: emulator.url }),
        polling: { minInterval: "100ms", maxInterval: "500ms" },
      });
      const chain = gembatch.chain("story", async ({ models, sleep, step }, { n }: { n: number }) => {
        let text = "";
        for (let i = 0; i < STEPS; i += 1) {
          const answer = await models.generateContent({ model: "gemini-2.5-flash", contents: `${n} ${i} ${text}` });
          text = answer.text ?? "";
        }
        const kept = await step("keep", async () => text);
        await sleep("50ms");
        return kept;
      });
      onTestFinished(async () => {
        await gembatch.close();
        await client.terminate();
      });
      return { gembatch, chain };
    };
    const both = [process(), process()];
    const runs = await Promise.all(
      both.flatMap(({ chain }, i) => Array.from({ length: 8 }, async (_, n) => chain.start({ n: 100 * i + n }, { id: `story-${i}-${n}` }))),
    );
    const outputs = await Promise.all(runs.map(async (run) => run.result()));
    expect(outputs.every((text) => text.startsWith("answer "))).toBe(true);
    expect([asked.size, new Set(asked.values())]).toEqual([16 * STEPS, new Set([1])]);
    const { runs: states, requests } = (await both[0]?.gembatch.stats()) ?? {};
    expect([states?.completed, requests?.succeeded]).toEqual([16, 16 * STEPS]);
  }, 90_000);

  it("carry texts that no document holds, through a payload store", async () => {
    const long = "x".repeat(1_500_000);
    const emulator = await startEmulator({ turnaround: 50, answer: () => long });
    const folder = await mkdtemp(join(tmpdir(), "gembatch-firestore-"));
    const client = newClient();
    const gembatch = new Gembatch({
      store: firestore({ firestore: client }),
      provider: gemini({ apiKey: "key", baseUrl: emulator.url }),
      polling: { minInterval: "50ms", maxInterval: "200ms" },
      payloads: { store: filePayloads({ path: folder }), threshold: 262_144 },
    });
    onTestFinished(async () => {
      await gembatch.close();
      await client.terminate();
      await emulator.close();
      await rm(folder, { recursive: true });
    });
    const chain = gembatch.chain("long", async ({ models }, text: string) => {
      const first = await models.generateContent({ model: "gemini-2.5-flash", contents: text });
      const second = await models.generateContent({ model: "gemini-2.5-flash", contents: `again: ${first.text ?? ""}` });
      return second.text ?? "";
    });
    expect(await (await chain.start(long)).result()).toBe(long);
  }, 60_000);
});
