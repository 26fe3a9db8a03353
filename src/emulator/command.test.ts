import { describe, expect, it } from "vitest";
import { runEmulatorCommand, type Emulator } from "../emulator.ts";
import { readArguments } from "./command.ts";

async function run(args: string[], whileRunning?: (emulator: Emulator) => Promise<void> | void) {
  let out = "";
  let error = "";
  const stop = new AbortController();
  const code = await runEmulatorCommand(args, {
    out: (text) => (out += text),
    error: (text) => (error += text),
    signal: stop.signal,
    started: async (emulator) => {
      try {
        await whileRunning?.(emulator);
      } finally {
        stop.abort();
      }
    },
  });
  return { code, out, error };
}

describe("gembatch emulator", () => {
  it("prints the address and runs until it is stopped", async () => {
    const { code, out } = await run(["--port", "0", "--fault", "throttleCreate"], async (emulator) => {
      expect((await fetch(emulator.url)).status).toBe(200);
      expect(emulator.faults).toEqual({ throttleCreate: true });
    });
    expect(code).toBe(0);
    expect(out).toMatch(/export GOOGLE_GEMINI_BASE_URL=http:\/\/127\.0\.0\.1:\d+ GEMINI_API_KEY=emulator\n/);
    expect(out).toMatch(/export GOOGLE_VERTEX_BASE_URL=(http:\/\/\S+) STORAGE_EMULATOR_HOST=\1 BIGQUERY_EMULATOR_HOST=\1\n/);
    expect(out).toContain("Stopped.");
  });

  it("says that a port is in use", async () => {
    await run(["--port", "0"], async (emulator) => {
      const { code, error } = await run(["--port", String(emulator.port)]);
      expect(code).toBe(1);
      expect(error).toBe(
        `gembatch emulator: port ${emulator.port} is in use. Stop what listens there, or choose another with --port (0 takes a free one).\n`,
      );
    });
  });

  it("reads its arguments", () => {
    expect(readArguments([])).toEqual({ port: 8787, faults: {} });
    expect(readArguments(["--turnaround", "2s", "--seed", "x", "--api-key", "k"])).toMatchObject({
      turnaround: 2_000,
      seed: "x",
      apiKey: "k",
    });
    expect(readArguments(["--turnaround", "500ms-1.5s"])).toMatchObject({ turnaround: { min: 500, max: 1_500 } });
    expect(readArguments(["--upstream", "http://127.0.0.1:1/v1", "--upstream-model", "m"])).toMatchObject({
      upstream: { baseUrl: "http://127.0.0.1:1/v1", model: "m" },
    });
    const faults = ["rowError=0.1", "stuck", "badLine=times:2,after:1,match:r7", 'latency={"ms":5}', "missingRows=false"].flatMap(
      (fault) => ["--fault", fault],
    );
    expect(readArguments(faults)).toMatchObject({
      faults: { rowError: 0.1, stuck: true, badLine: { times: 2, after: 1, match: "r7" }, latency: { ms: 5 }, missingRows: false },
    });
    expect(readArguments(["-h"])).toBe("help");
  });

  it.each([
    [["--nope"], "nope"],
    [["extra"], "extra"],
    [["--port", "x"], "--port must be a number from 0 to 65535"],
    [["--port", "70000"], "--port must be a number from 0 to 65535"],
    [["--turnaround", "2"], "--turnaround must be a time such as 500ms"],
    [["--turnaround", "5s-1s"], "write the shorter time first"],
    [["--fault", "rowErrors"], 'Unknown fault "rowErrors"'],
    [["--fault", "rowError=2"], "a probability from 0 to 1"],
    [["--fault", "rowError=often:1"], "write a probability such as 0.1"],
    [["--upstream", "here"], "--upstream must be a URL"],
  ])("refuses %j", async (args, message) => {
    const { code, error } = await run(args);
    expect(code).toBe(2);
    expect(error).toContain(message);
    expect(error).toContain("gembatch emulator --help");
  });

  it("explains itself", async () => {
    const { code, out } = await run(["--help"]);
    expect(code).toBe(0);
    expect(out).toContain("--turnaround");
    expect(out).toContain("createAnswerLost");
  });
});
