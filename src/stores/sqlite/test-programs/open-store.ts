/** Opens the store named on the command line as soon as it is told to, and says its id. */
import { SqliteStore } from "../store.ts";

const store = new SqliteStore({ path: process.argv[2] ?? "" });
process.once("message", () => {
  void (async () => {
    try {
      await store.open();
      process.send?.({ id: store.id });
      await store.close();
    } catch (error) {
      process.send?.({ code: (error as { code?: unknown }).code ?? String(error) });
    }
    process.disconnect();
  })();
});
process.send?.("ready");
