import * as logger from "firebase-functions/logger";
import { Gembatch } from "gembatch";
import { firestore } from "gembatch/firestore";

/** The instance on which handlers and chains are registered. It touches nothing before it is used. */
export const gembatch = new Gembatch({
  // GEMBATCH_STORE names another store for a test.
  store: process.env["GEMBATCH_STORE"] ?? firestore(),
  // In functions a worker runs by tasks, never by itself in the background.
  autoWorker: false,
  polling: { minInterval: "30s", maxInterval: "10m" },
  logger,
});
