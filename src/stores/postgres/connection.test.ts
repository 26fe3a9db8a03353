import { Pool } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest";
import { Connection } from "./connection.ts";
import { type PgPool, resolveOptions } from "./options.ts";

const wanted = "SELECT n FROM pg_temp.kept ORDER BY n";
const insert = "INSERT INTO pg_temp.kept (n) VALUES ($1)";
/** What the next statement that is refused begins with. */
let refused: string | undefined;

describe.each([
  ["that sends on", true],
  ["that waits for each answer", false],
])("a transaction on a connection %s", (_, pipeline) => {
  // One connection, so that a temporary table is there for all, and whatever one transaction leaves is met by the next.
  const pool = new Pool({ connectionString: inject("postgresUrl"), max: 1, pipeline });
  const seen: string[] = [];
  const connection = new Connection(watched(pool, seen), resolveOptions({ pool: pool as unknown as PgPool }));
  const kept = async (): Promise<number[]> => (await connection.rows<[number]>(wanted)).map(([n]) => n);

  beforeAll(async () => {
    await connection.run("CREATE TEMP TABLE kept (n int PRIMARY KEY)");
  });
  beforeEach(async () => {
    await connection.run("DELETE FROM pg_temp.kept");
    seen.length = 0;
  });
  afterAll(async () => pool.end());

  it("has done everything in its order when it resolves", async () => {
    const found = await connection.write(async (sql) => {
      await sql.send(insert, [2]);
      await sql.send(insert, [1]);
      const [rows, changed] = await Promise.all([sql.rows<[number]>(wanted), sql.run("UPDATE pg_temp.kept SET n = n + 10")]);
      await sql.send(insert, [3]);
      return [rows, changed];
    });
    expect(found).toEqual([[[1], [2]], 2]);
    expect(await kept()).toEqual([3, 11, 12]);
  });

  it("that nothing was asked in is one, too", async () => {
    expect(await connection.write(async () => "nothing")).toBe("nothing");
    expect(await connection.read(async () => "nothing")).toBe("nothing");
  });

  it("fails with what failed first, though nobody waited for it, and leaves nothing", async () => {
    const failing = connection.write(async (sql) => {
      await sql.send(insert, [1]);
      await sql.send(insert, [1]);
      await sql.send(insert, [2]);
    });
    await expect(failing).rejects.toMatchObject({ code: "23505" });
    const noticed = connection.write(async (sql) => {
      await sql.send(insert, [1]);
      await sql.send(insert, [1]);
      return sql.rows(wanted);
    });
    await expect(noticed).rejects.toMatchObject({ code: "23505" });
    expect(await kept()).toEqual([]);
  });

  it("is done again if what failed first was another transaction's fault", async () => {
    let tries = 0;
    await connection.write(async (sql) => {
      tries += 1;
      if (tries === 1) await sql.send("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$");
      await sql.send(insert, [tries]);
    });
    expect([tries, await kept()]).toEqual([2, [2]]);
  });

  it("sends nothing more once it has failed: it would come into the next one", async () => {
    let resume = () => {};
    const paused = new Promise<void>((resolve) => (resume = resolve));
    let late: unknown;
    const failing = connection.write(async (sql) => {
      const slow = async () => {
        await paused;
        await sql.run(insert, [1]).catch((thrown: unknown) => (late = thrown));
        return late;
      };
      await Promise.all([sql.run("SELECT 1 / 0"), slow()]);
    });
    await expect(failing).rejects.toMatchObject({ code: "22012" });
    await connection.write(async (sql) => {
      await sql.run(insert, [2]);
      resume();
      await new Promise(setImmediate);
    });
    expect(late).toBeInstanceOf(Error);
    expect(await kept()).toEqual([2]);
  });

  it("of which several things were asked at once does none of them after one that fails", async () => {
    const failing = connection.write(async (sql) => {
      await Promise.all([sql.run(insert, [1]), sql.run("SELECT 1 / 0"), ...[2, 3, 4, 5].map(async (n) => sql.run(insert, [n]))]);
    });
    await expect(failing).rejects.toMatchObject({ code: "22012" });
    // Whatever was still to be sent would be by now.
    for (let looks = 0; looks < 10; looks += 1) expect(await kept()).toEqual([]);
  });

  it("whose beginning is refused does nothing: each statement would be a transaction of its own", async () => {
    for (const take of ["write", "read"] as const) {
      refused = "BEGIN";
      const failing = connection[take](async (sql) => {
        await Promise.all([sql.run(insert, [1]), sql.rows(wanted), sql.send(insert, [2])]);
      });
      await expect(failing).rejects.toMatchObject({ code: "store_unavailable", cause: { code: "57014" } });
      expect(seen.splice(0).map((text) => text.slice(0, 5))).toEqual(["BEGIN", "ROLLB", "---"]);
    }
    expect(await kept()).toEqual([]);
  });

  it("is not committed if its work throws, whatever is on its way", async () => {
    const failing = connection.write(async (sql) => {
      await sql.send(insert, [1]);
      throw new Error("on purpose");
    });
    await expect(failing).rejects.toThrow("on purpose");
    expect(seen.filter((text) => text === "COMMIT")).toEqual([]);
    expect(await kept()).toEqual([]);
  });

  it("sends its commit before what nobody waits for is answered, if it can", async () => {
    await connection.write(async (sql) => {
      await sql.run(insert, [1]);
      seen.length = 0;
      await sql.send(insert, [2]);
      await sql.send(insert, [3]);
    });
    // A line of dashes for each answer.
    const insertion = `INSERT INTO pg_temp.kept (n) VALUES ($1)`;
    expect(seen).toEqual(
      pipeline ? [insertion, insertion, "COMMIT", "---", "---", "---"] : [insertion, "---", insertion, "---", "COMMIT", "---"],
    );
    expect(await kept()).toEqual([1, 2, 3]);
  });
});

/** A pool that remembers what was asked, and when it was answered. */
function watched(pool: Pool, seen: string[]): PgPool {
  return {
    async connect() {
      const client = await pool.connect();
      return new Proxy(client, {
        get(target, name) {
          const value: unknown = Reflect.get(target, name);
          if (name !== "query") return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
          return async (query: string | { text: string }) => {
            const text = typeof query === "string" ? query : query.text;
            seen.push(text);
            // As a server that is told to cancel what it does.
            if (refused !== undefined && text.startsWith(refused)) {
              refused = undefined;
              throw Object.assign(new Error("canceling statement due to user request"), { code: "57014", severity: "ERROR" });
            }
            const answer = await target.query(query);
            seen.push("---");
            return answer;
          };
        },
      });
    },
  };
}
