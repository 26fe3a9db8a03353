/** The emulator in a process of its own, for `large-batch.ts`: tells its URL, and ends with its parent. */
import { startEmulator } from "../src/emulator.ts";

const emulator = await startEmulator({ turnaround: 100, ledger: "counts", limits: { fileBytes: 4_000_000_000 } });
process.send!(emulator.url);
process.on("disconnect", () => void emulator.close().finally(() => process.exit(0)));
