export { firestoreIndexes } from "./stores/firestore/indexes.ts";
export type { CompositeIndex, FieldOverride, FirestoreIndexes, IndexField } from "./stores/firestore/indexes.ts";
export { firestore, FirestoreStore } from "./stores/firestore/store.ts";
export type { FirebaseApp, FirestoreClient, FirestoreStoreOptions } from "./stores/firestore/store.ts";
