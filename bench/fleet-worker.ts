/** One worker of `fleet.ts`, in a process of its own: works until its parent is gone, and tells what it used when asked. */
import { Gembatch } from "../src/index.ts";
import { gemini } from "../src/gemini.ts";
import { defineFleetChain, type FleetSetup } from "./fleet-setup.ts";
import { peakMb } from "./measure.ts";

process.once("message", (setup: FleetSetup) => void run(setup));

async function run({ store, emulator, steps, maxRequests }: FleetSetup): Promise<void> {
  const gembatch = new Gembatch({
    store,
    provider: gemini({ apiKey: "bench", baseUrl: emulator, limits: { enqueuedTokens: false } }),
    polling: { minInterval: 50 },
    batching: { debounce: 50, maxRequests },
  });
  defineFleetChain(gembatch, steps);
  await gembatch.worker().start();
  process.send!("working");
  process.on("message", (message) => {
    if (message !== "figures") return;
    const { user, system } = process.cpuUsage();
    process.send!({ cpuMs: (user + system) / 1_000, peakMb: peakMb() });
  });
  process.on("disconnect", () => process.exit(0));
}
