import { afterEach, describe, expect, it, vi } from "vitest";
import { silentLogger } from "../core/log.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";
import { connectProviders, connectStore, describeStore } from "./connect.ts";
import { systemClock, systemRandom } from "./system-clock.ts";

const parts = { clock: systemClock, random: systemRandom, log: silentLogger };
const connect = (url: string | undefined, env = {}) => connectStore(url, env, {}, parts).name;

describe("a store", () => {
  it("is what its URL says", () => {
    expect([connect("sqlite::memory:"), connect("sqlite:a/b.db"), connect(undefined)]).toEqual(["sqlite", "sqlite", "sqlite"]);
    expect([connect("postgres://me@host/db"), connect("postgresql://me@host/db?schema=x")]).toEqual(["postgres", "postgres"]);
    expect(connect(undefined, { GEMBATCH_STORE: "postgres://me@host/db" })).toBe("postgres");
  });

  it("of an unknown kind is refused without its secrets", () => {
    expect(() => connect("mysql://me:secret@host/db")).toThrow(/"mysql:\/\/…@host\/db"/);
  });

  it("is described without its secrets", () => {
    expect(describeStore(undefined, {})).toBe("sqlite:.gembatch/gembatch.db");
    expect(describeStore("sqlite:a@b/store.db", {})).toBe("sqlite:a@b/store.db");
    expect(describeStore("postgres://me:se%40cret@host:5/db?password=secret&schema=x", {})).toBe("postgres://host:5/db");
    expect(describeStore("postgres://me:se@cret@host/db", {})).toBe("postgres://host/db");
    expect(describeStore(undefined, { GEMBATCH_STORE: "postgres:///db?host=/run" })).toBe("postgres:///db");
    expect(describeStore(new SqliteStore({ path: ":memory:" }), {})).toBe("sqlite");
  });
});

describe("providers", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it("are those that are named, in that order", () => {
    vi.stubEnv("GEMBATCH_VERTEX_BUCKET", "gs://bucket");
    expect(connectProviders("vertex", {}).names).toEqual(["vertex"]);
    expect(connectProviders(["vertex", "gemini"], {}).names).toEqual(["vertex", "gemini"]);
    expect(connectProviders(undefined, { GEMBATCH_PROVIDER: "vertex, gemini" }).default.name).toBe("vertex");
  });
});
