export { PostgresStore, postgresStore } from "./stores/postgres/store.ts";
export type { PgClient, PgPool, PgQuery, PgResult, PostgresStoreOptions } from "./stores/postgres/store.ts";
