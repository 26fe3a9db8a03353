import { describe, expect, it } from "vitest";
import { checkRetention, removalInstants, type RemovalInstants } from "./retention.ts";

const day = 86_400_000;
const now = 1_000 * day;

describe("retention", () => {
  it.each<[unknown, RemovalInstants]>([
    [{ runs: "30d" }, { runs: { completed: now - 30 * day, failed: now - 30 * day, cancelled: now - 30 * day } }],
    [{ runs: { completed: "7d" } }, { runs: { completed: now - 7 * day } }],
    [
      { runs: { failed: 5, cancelled: "1h" }, batches: "2d" },
      { runs: { failed: now - 5, cancelled: now - 3_600_000 }, batches: now - 2 * day },
    ],
    [{ histories: 0 }, { runs: {}, histories: now }],
  ])("%j", (options, instants) => {
    const policy = checkRetention(options);
    expect(policy && removalInstants(policy, now)).toEqual(instants);
  });
  it.each([undefined, {}, { runs: undefined }, { runs: {} }, { runs: { completed: undefined }, batches: undefined }])(
    "%j keeps everything",
    (options) => {
      expect(checkRetention(options)).toBeUndefined();
    },
  );
  it.each<[unknown, RegExp]>([
    [null, /Option retention must be such as \{ runs: "30d" \}, got null/],
    ["30d", /Option retention must be such as/],
    [["30d"], /Option retention must be such as/],
    [{ keep: "30d" }, /Unknown option retention\.keep/],
    [{ runs: "for ever" }, /retention\.runs must be a duration/],
    [{ runs: null }, /retention\.runs must be a duration/],
    [{ runs: [1] }, /retention\.runs must be a duration/],
    [{ runs: { held: "30d" } }, /Unknown option retention\.runs\.held/],
    [{ runs: { failed: -1 } }, /retention\.runs\.failed must be a duration/],
    [{ histories: "x" }, /retention\.histories must be a duration/],
    [{ batches: Number.NaN }, /retention\.batches must be a duration/],
  ])("%j is refused", (options, message) => {
    expect(() => checkRetention(options)).toThrow(message);
    expect(() => checkRetention(options)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });
});
