/**
 * Transactions on a pool of connections, tried again where that is safe.
 */
import { inDoubt } from "../store-errors.ts";
import { createHash } from "node:crypto";
import { whole } from "./arrays.ts";
import { isConflict, isDisconnected, isLostStatement, isStale, sqlState, storeError, unstorable } from "./errors.ts";
import { isStorable } from "./names.ts";
import type { PgClient, PgPool, PgQuery, Settings } from "./options.ts";
import { Patience, pause } from "../patience.ts";
import { type Row, Session, type Sql } from "./session.ts";

const INT8 = 20;
const NUMERIC = 1700;
const INT_TYPES = new Set([21, 23, INT8, NUMERIC, 700, 701]);
/** Every number that the schema holds is one of JavaScript's. */
const types: PgQuery["types"] = {
  getTypeParser: (oid) => (INT_TYPES.has(oid) ? Number : oid === 16 ? (text: string) => text === "t" : (text: string) => text),
};

/** Tries of a transaction that the server aborts because of another one. */
const CONFLICT_TRIES = 12;
/** How long a transaction may do nothing before the server ends it: a process that is frozen must not keep its locks. */
const IDLE_MS = 15_000;
/** How long a statement waits for somebody else's lock before its transaction is tried again. Ours are held for much less. */
const LOCK_MS = 10_000;

export class Connection {
  readonly settings: Settings;
  readonly #pool: PgPool;
  /**
   * Whether statements are prepared under a name. Behind a pooler that hands out connections by transaction the name may be missing on the next one: found out (`isLostStatement`), this is given
   * up for good and the transaction done again. A name is the digest of its text, so it can never stand for another statement.
   */
  prepares: boolean;
  readonly #texts = new Map<string, { text: string; name: string }>();

  constructor(pool: PgPool, settings: Settings) {
    this.#pool = pool;
    this.settings = settings;
    this.prepares = settings.prepare;
  }

  /** One statement, its own transaction. Repeated when the connection breaks: only for what changes nothing, or the same again. */
  async query<T = Row>(text: string, values: unknown[] = []): Promise<T[]> {
    return this.look((sql) => sql.query<T>(text, values));
  }

  async rows<T extends unknown[]>(text: string, values: unknown[] = []): Promise<T[]> {
    return this.look((sql) => sql.rows<T>(text, values));
  }

  async run(text: string, values: unknown[] = []): Promise<number> {
    return this.look((sql) => sql.run(text, values));
  }

  /** The same for several, each by itself, on one connection. */
  async look<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#patiently(async () => {
      const client = await this.#connect();
      return this.#lend(client, () => new Session(client, this).work(work));
    });
  }

  /** Reads that belong together, on one snapshot. */
  async read<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#patiently(async () => {
      const client = await this.#connect();
      return this.#lend(client, async () => {
        const session = new Session(client, this);
        await session.begin(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ${limits}`);
        const result = await session.work(work);
        await session.end();
        return result;
      });
    });
  }

  /**
   * `work` in one transaction that is durable when this resolves. It is done again from its beginning when the server aborts it because of another one, and when the connection breaks before the
   * commit was sent. A commit whose answer is lost is looked up by the transaction's id, so that what was done is neither done twice nor forgotten: only if the server stays away for longer than
   * the store's patience is it left in doubt.
   */
  async write<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#patiently(async () => {
      const client = await this.#connect();
      try {
        return await this.#lend(client, () => this.#transaction(client, work));
      } catch (thrown) {
        if (!(thrown instanceof LostCommit)) throw thrown;
        // Only now: the connection was given back, and a pool whose connections all broke at once has room for the look.
        if (!(await this.#hasCommitted(thrown.id, thrown.cause))) throw thrown.cause;
        return thrown.result as T;
      }
    });
  }

  async #transaction<T>(client: PgClient, work: (sql: Sql) => Promise<T>): Promise<T> {
    const session = new Session(client, this);
    // By its id it can be found out what became of a commit.
    const began = (await session.begin(`BEGIN; ${limits}; SELECT pg_current_xact_id()::text AS id`)) as unknown as {
      rows: { id: string }[];
    }[];
    const result = await session.work(work);
    const id = began.at(-1)?.rows[0]?.id;
    try {
      await session.end();
    } catch (thrown) {
      if (!isDisconnected(thrown) || id === undefined) throw thrown;
      throw new LostCommit(id, result, thrown);
    }
    return result;
  }

  /** Statements of one connection, kept until `end` is called. */
  async dedicated(): Promise<PgClient> {
    return this.#connect();
  }

  async #hasCommitted(id: string, cause: unknown): Promise<boolean> {
    const { patienceMs, place } = this.settings;
    // A transaction that the server thinks is alive ends by its idle limit at last.
    const patience = new Patience(patienceMs + IDLE_MS);
    try {
      for (let tries = 0; ; tries += 1) {
        try {
          const client = await this.#connect();
          const status = await this.#lend(client, async () => {
            const { rows } = await client.query({ text: "SELECT pg_xact_status($1::xid8) AS status", values: [id] });
            return (rows[0] as { status: string | null }).status;
          });
          if (status === "committed") return true;
          if (status === "aborted") return false;
          // Still in progress: the server has not noticed yet that nobody is there.
        } catch (thrown) {
          // An id of its future: another server has taken over before that transaction came to it.
          if (sqlState(thrown) === "22023") return false;
          if (!isDisconnected(thrown)) throw inDoubt(place, cause);
        }
        if (patience.over) throw inDoubt(place, cause);
        await pause(pauseMs(tries));
      }
    } finally {
      patience.end();
    }
  }

  /** Again and again while the server is away or others are in the way, up to the store's patience. */
  async #patiently<T>(attempt: () => Promise<T>): Promise<T> {
    const { patienceMs, place, random } = this.settings;
    let patience: Patience | undefined;
    let conflicts = 0;
    try {
      for (let tries = 0; ; tries += 1) {
        try {
          return await attempt();
        } catch (thrown) {
          if (isLostStatement(thrown) && this.settings.prepare) {
            this.prepares = false;
            if ((conflicts += 1) >= CONFLICT_TRIES) throw storeError(thrown, place);
          } else if (isConflict(thrown)) {
            if ((conflicts += 1) >= CONFLICT_TRIES) throw storeError(thrown, place);
            await pause(Math.ceil(random.next() * 10 * conflicts));
          } else if (isDisconnected(thrown)) {
            patience ??= new Patience(patienceMs);
            if (patience.over) throw storeError(thrown, place);
            await pause(Math.min(pauseMs(tries), Math.max(1, patienceMs)));
          } else throw storeError(thrown, place);
        }
      }
    } finally {
      patience?.end();
    }
  }

  #connect(): Promise<PgClient> {
    return this.#pool.connect();
  }

  /** Gives the connection back; one on which something failed is rolled back or thrown away. */
  async #lend<T>(client: PgClient, work: () => Promise<T>): Promise<T> {
    // A connection that breaks between two statements says so by an event, which must have a listener; the next statement fails.
    const ignore = (): void => undefined;
    client.on("error", ignore);
    let broken: Error | undefined;
    try {
      return await work();
    } catch (thrown) {
      if (thrown instanceof LostCommit || isDisconnected(thrown) || isStale(thrown)) broken = thrown as Error;
      else {
        try {
          await client.query("ROLLBACK");
        } catch (error) {
          broken = error as Error;
        }
      }
      throw thrown;
    } finally {
      client.removeListener("error", ignore);
      client.release(broken);
    }
  }

  /** A query as `pg` takes it. */
  toQuery(text: string, values: unknown[] | undefined, rowMode?: "array"): PgQuery {
    const statement = this.#statement(text);
    const query: PgQuery = { text: statement.text, types: types! };
    if (values !== undefined) {
      if (!values.every(isPlain)) throw unstorable();
      query.values = values.map(whole);
    }
    if (this.prepares) query.name = statement.name;
    if (rowMode !== undefined) query.rowMode = rowMode;
    return query;
  }

  /** The text with the schema's name in it, and a name for it that is the same in every process. */
  #statement(text: string): { text: string; name: string } {
    let statement = this.#texts.get(text);
    if (statement === undefined) {
      const full = this.qualify(text);
      statement = { text: full, name: `gb_${createHash("sha256").update(full).digest("base64url").slice(0, 24)}` };
      this.#texts.set(text, statement);
    }
    return statement;
  }

  qualify(text: string): string {
    return text.replaceAll(/\bgb\./g, `"${this.settings.schema}".`);
  }

  /** Statements in use, for checks of their query plans. */
  statements(): string[] {
    return [...this.#texts.values()].map(({ text }) => text);
  }
}

/**
 * Every hot statement finds its rows one by one in an index. What the planner may believe of a table (that it is empty, that all rows are in one state) must not change that; nor would it make a
 * better plan for some values than for others, so it makes one, at the first use.
 */
const plans = [
  ...["enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"].map((name) => `SET LOCAL ${name} = off`),
  "SET LOCAL plan_cache_mode = force_generic_plan",
].join("; ");
const limits = `SET LOCAL idle_in_transaction_session_timeout = ${IDLE_MS}; SET LOCAL lock_timeout = ${LOCK_MS}; ${plans}`;
const pauseMs = (tries: number): number => Math.min(1_000, 50 * 2 ** Math.min(tries, 10));

/** A text that would come back as another one is refused: half of a surrogate pair becomes U+FFFD on its way. */
const isPlain = (value: unknown): boolean => (Array.isArray(value) ? value.every(isPlain) : typeof value !== "string" || isStorable(value));

/** The connection broke between a commit and its answer. */
class LostCommit extends Error {
  readonly id: string;
  readonly result: unknown;

  constructor(id: string, result: unknown, cause: unknown) {
    super("The answer to a commit was lost.", { cause });
    this.id = id;
    this.result = result;
  }
}
