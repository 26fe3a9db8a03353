import { firestoreIndexes } from "../../firestore.ts";
import type { DeclaredIndexes } from "./indexes-file.ts";

/** The indexes and field settings that the Firestore store declares for this prefix of its collections. */
export const declaredIndexes = (prefix: string): DeclaredIndexes => firestoreIndexes(prefix);
