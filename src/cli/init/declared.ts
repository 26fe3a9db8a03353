import { firestoreIndexes } from "../../firestore.ts";
import type { DeclaredIndexes } from "./indexes-file.ts";

/** The indexes and field settings that the Firestore store declares for this prefix of its collections. `edition`: as the Firestore API names it. */
export const declaredIndexes = (prefix: string, edition?: string): DeclaredIndexes =>
  firestoreIndexes(prefix, edition === "ENTERPRISE" ? "enterprise" : "standard");
