/**
 * What a system needs beyond its npm package. Imports nothing that is installed.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** absurd's schema (`sql/absurd.sql` of the release that its SDK belongs to) is in its repository, not on npm. */
export function absurdSchema(): string {
  return process.env["GEMBATCH_BENCH_ABSURD_SQL"] ?? join(import.meta.dirname, "absurd.sql");
}

/** The server's binary for this platform, if there is one. */
export function restateServer(): string | undefined {
  try {
    const name = `@restatedev/restate-server-${process.platform}-${process.arch}`;
    const path = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), "bin", "restate-server");
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** Why a system cannot be measured here. */
export function missing(system: string): string | undefined {
  if (system === "absurd" && !existsSync(absurdSchema()))
    return "its schema is not on npm: put `sql/absurd.sql` of release 0.4.0 of its repository beside `bench/compare/run.ts`, or its path into `GEMBATCH_BENCH_ABSURD_SQL`";
  if (system === "restate" && restateServer() === undefined) return `there is no server for ${process.platform}-${process.arch} on npm`;
  return undefined;
}
