import { describe, expect, it } from "vitest";
import { storedResponse } from "./stored-response.ts";

const answer = { text: '{"a":"ü"}', contentType: "application/json" } as const;

describe("storedResponse", () => {
  it("is a Response in every way of reading it", async () => {
    const make = () => storedResponse(answer);
    expect(make()).toBeInstanceOf(Response);
    expect([make().ok, make().status, make().headers.get("content-type")]).toEqual([true, 200, "application/json"]);
    expect(await make().json()).toEqual({ a: "ü" });
    expect(await make().text()).toBe(answer.text);
    expect(new TextDecoder().decode(await make().arrayBuffer())).toBe(answer.text);
    expect(new TextDecoder().decode(await make().bytes())).toBe(answer.text);
    expect(await (await make().blob()).text()).toBe(answer.text);
    let streamed = "";
    for await (const chunk of make().body!.pipeThrough(new TextDecoderStream())) streamed += chunk;
    expect(streamed).toBe(answer.text);
  });

  it("gives the same stream however often it is asked for it", async () => {
    const response = storedResponse(answer);
    expect(response.body).toBe(response.body);
    expect(response.bodyUsed).toBe(false);
    expect(await new Response(response.body).text()).toBe(answer.text);
    expect(response.bodyUsed).toBe(true);
  });

  it("can be read once, cloned before", async () => {
    const response = storedResponse(answer, 400);
    const copy = response.clone();
    expect(response.bodyUsed).toBe(false);
    await response.text();
    expect(response.bodyUsed).toBe(true);
    await expect(response.json()).rejects.toThrow(TypeError);
    expect(() => response.clone()).toThrow(TypeError);
    expect([copy.status, await copy.json()]).toEqual([400, { a: "ü" }]);
  });
});
