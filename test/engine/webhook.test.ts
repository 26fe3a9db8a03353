import { createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { ManualClock, SteerableProvider } from "../../src/testing.ts";
import { singleKit } from "./kit.ts";

const secret = `whsec_${Buffer.from("a secret of the project's webhook").toString("base64")}`;

function hook(now: number, options: { id?: string; secret?: string; body?: string } = {}): Request {
  const { id = "msg_1", body = JSON.stringify({ type: "batch.succeeded", data: { id: "batch_1" } }) } = options;
  const timestamp = String(Math.floor(now / 1_000));
  const key = Buffer.from((options.secret ?? secret).slice("whsec_".length), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` };
  return new Request("http://localhost/hook", { method: "POST", headers, body });
}

/** A kit with a job that ends long before its worker would look at it again. */
async function waitingKit() {
  const clock = new ManualClock();
  const provider = new SteerableProvider({ clock, turnaroundMs: 3_600_000 });
  const made = singleKit({ clock, provider, polling: { minInterval: "2h", maxInterval: "2h" } });
  await made.start(2);
  await made.kit.advance("61m");
  return { ...made, clock };
}

describe("a webhook", () => {
  it("makes the worker look at its jobs at once", async () => {
    const { kit, clock } = await waitingKit();
    await using _ = kit;
    expect((await kit.gembatch.stats()).runs.completed).toBe(0);
    const answer = await kit.gembatch.webhook({ secret, jwks: false })(hook(clock.now()));
    expect(answer.status).toBe(200);
    const before = clock.now();
    await kit.run();
    expect(clock.now() - before).toBeLessThan(60_000);
    expect((await kit.gembatch.stats()).runs.completed).toBe(2);
  });

  it("is not believed: a job that goes on is not taken for ended", async () => {
    const { kit, clock } = await waitingKit();
    await using _ = kit;
    kit.provider.jobs[0]!.endsAt = Infinity;
    await kit.gembatch.webhook({ secret, jwks: false })(hook(clock.now()));
    await kit.advance("1m");
    expect((await kit.gembatch.stats()).batches.in_progress).toBe(1);
  });

  it("changes nothing when it is forged or old", async () => {
    const { kit, clock } = await waitingKit();
    await using _ = kit;
    const looks = () => kit.provider.calls.filter((call) => call === "getJobs").length;
    const before = looks();
    const handle = kit.gembatch.webhook({ secret, jwks: false });
    expect((await handle(hook(clock.now(), { secret: `whsec_${Buffer.from("another secret").toString("base64")}` }))).status).toBe(401);
    expect((await handle(hook(clock.now() - 3_600_000))).status).toBe(401);
    await kit.advance("1m");
    expect(looks()).toBe(before);
  });
});
