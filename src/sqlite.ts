/**
 * `gembatch/sqlite`: the store in one SQLite file, on `node:sqlite` and nothing else.
 *
 * @module
 */
export { SqliteStore, sqliteStore, type SqliteStoreOptions } from "./stores/sqlite/store.ts";
