import type { GenerateContentResponse } from "@google/genai";
import { type } from "arktype";
import * as fc from "fast-check";
import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { withoutQuotes } from "./quotes.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import { complaintAbout, outputInvalid, readReply, type InvalidReply } from "./typed-reply.ts";

const schema = z.object({ title: z.string(), prices: z.array(z.number()) });

const response = (parts: object[] | undefined, more: object = { finishReason: "STOP" }) =>
  ({ candidates: [{ content: { role: "model", parts }, ...more }] }) as unknown as GenerateContentResponse;
const text = (reply: string, more?: object) => response([{ text: reply }], more);

async function invalid(reply: GenerateContentResponse, by: StandardSchemaV1 = schema): Promise<InvalidReply> {
  const read = await readReply(reply, by);
  if ("output" in read) throw new Error("it is valid");
  return read;
}

describe("a reply that fits", () => {
  const output = { title: "t", prices: [1] };
  const json = JSON.stringify(output);
  it.each([
    ["is JSON", text(json)],
    [
      "is JSON over several parts, with thoughts",
      response([{ text: "Let me see", thought: true }, { text: json.slice(0, 5) }, { text: json.slice(5), thoughtSignature: "c2ln" }]),
    ],
    ["is in a fence", text(`\`\`\`json\n${json}\n\`\`\``)],
    ["is in a fence without a language", text(`\`\`\`\n${json}\n\`\`\`\n`)],
    ["is in a fence among words", text(`Here it is:\r\n\`\`\`JSON\r\n${json}\r\n\`\`\`\r\nAnything else?`)],
    ["holds a fence", text(`\`\`\`json\n${JSON.stringify(output)}\n\`\`\``)],
    ["ended at the limit, but complete", text(json, { finishReason: "MAX_TOKENS" })],
  ])("%s", async (_name, reply) => {
    expect(await readReply(reply, schema)).toEqual({ output });
  });

  it("keeps fences within texts", async () => {
    const holding = { title: "```js\nx\n```", prices: [] };
    expect(await readReply(text(JSON.stringify(holding)), schema)).toEqual({ output: holding });
    expect(await readReply(text(`\`\`\`json\n${JSON.stringify(holding)}\n\`\`\``), schema)).toEqual({ output: holding });
  });

  it("is what the schema makes of it, at once or later", async () => {
    const slow = z.object({ n: z.string() }).transform(async ({ n }) => Number(n));
    expect(await readReply(text('{"n":"5"}'), slow)).toEqual({ output: 5 });
  });
});

describe("a reply that does not fit", () => {
  it("has its text, its issues and the turn as it was", async () => {
    const parts = [
      { text: "hm", thought: true },
      { text: '{"title":5,"prices":[1,"two"]}', thoughtSignature: "c2lnbmF0dXJl", brandNew: { kept: true } },
    ];
    const reply = await invalid(response(parts));
    expect(reply.text).toBe('{"title":5,"prices":[1,"two"]}');
    expect(reply.issues.map(({ path, message }) => [path, message])).toEqual([
      ["title", "Invalid input: expected string, received number"],
      ["prices[1]", "Invalid input: expected number, received string"],
    ]);
    expect(reply.turn).toEqual({ role: "model", parts });
    expect(reply.turn?.parts?.[1]).toBe(parts[1]);
    expect(complaintAbout(reply)).toEqual({
      role: "user",
      parts: [
        {
          text: [
            "Your reply does not fit the required schema:",
            "- title: Invalid input: expected string, received number",
            "- prices[1]: Invalid input: expected number, received string",
            "Reply again with the complete, corrected JSON and nothing else.",
          ].join("\n"),
        },
      ],
    });
  });

  it("is said to be cut off if it is", async () => {
    const reply = await invalid(text('{"title":"lo', { finishReason: "MAX_TOKENS" }));
    expect(complaintAbout(reply).parts?.[0]?.text).toMatch(/cut off.*\nReply again, more briefly/);
    expect(outputInvalid(reply, 3).message).toMatch(/in 3 tries\. It was cut off at the output limit\.\n- The reply is not valid JSON\.\n/);
  });

  it.each<[string, GenerateContentResponse, string, boolean]>([
    ["no candidate", { candidates: [] } as never, "The reply has no text.", false],
    ["a blocked prompt", { promptFeedback: { blockReason: "SAFETY" } } as never, "The prompt was blocked (SAFETY).", false],
    ["no parts", response(undefined), "The reply has no text.", false],
    ["an empty text", text(""), "The reply has no text.", false],
    [
      "thoughts only",
      response([{ text: "hm", thought: true }], { finishReason: "MAX_TOKENS" }),
      "The reply has no text (finish reason MAX_TOKENS).",
      true,
    ],
    ["a blocked answer", text("{", { finishReason: "SAFETY" }), "The reply is not valid JSON.", false],
    ["a function call", response([{ functionCall: { name: "f" } }]), "The reply calls a function and has no text.", false],
    ["text and a function call", response([{ text: "{" }, { functionCall: { name: "f" } }]), "The reply is not valid JSON.", false],
    ["no JSON", text("Sorry."), "The reply is not valid JSON.", true],
  ])("%s: is it asked for again?", async (_name, given, message, again) => {
    const reply = await invalid(given);
    expect(reply.issues).toMatchObject([{ path: "", message }]);
    expect(reply.turn !== undefined).toBe(again);
  });

  it("has a role, which some services leave out", async () => {
    const bare = { candidates: [{ content: { parts: [{ text: "{" }] } }] } as unknown as GenerateContentResponse;
    expect((await invalid(bare)).turn).toEqual({ role: "model", parts: [{ text: "{" }] });
  });

  it("is complained about in bounded length", async () => {
    const wrong = { title: "t", prices: Array.from({ length: 5_000 }, () => "x") };
    const reply = await invalid(text(JSON.stringify(wrong)));
    expect(reply.issues).toHaveLength(20);
    expect(complaintAbout(reply).parts?.[0]?.text).toContain(
      "- prices[19]: Invalid input: expected number, received string\n- and 4980 more\n",
    );
    const loud = z.string().refine(() => false, { error: "x".repeat(10_000), path: Array.from({ length: 100 }, () => "deep and wide") });
    expect(complaintAbout(await invalid(text('""'), loud)).parts?.[0]?.text?.length).toBeLessThan(700);
  });

  it("names places in any form that a schema gives", async () => {
    const path: (PropertyKey | { key: PropertyKey })[] = ["a", 0, { key: "b c" }, { key: 1 }, "d-e", Symbol("s")];
    const odd = {
      "~standard": {
        version: 1,
        vendor: "odd",
        validate: () => ({
          issues: [
            { message: "no", path },
            { message: "a[0] is bad", path: ["a", 0] },
          ],
        }),
      },
    } as const;
    const reply = await invalid(text("{}"), odd);
    expect(complaintAbout(reply).parts?.[0]?.text).toContain('- a[0]["b c"][1].d-e["Symbol(s)"]: no\n- a[0] is bad\n');
  });
});

describe("the final failure", () => {
  it("lists the issues; the text is in the details only", async () => {
    const given = '{"title":5,"prices":"my secret"}';
    const error = outputInvalid(await invalid(text(given)), 1);
    expect(error).toMatchObject({ code: "output_invalid", retryable: false });
    expect(error.message).toContain(
      "in one try.\n- title: Invalid input: expected string, received number\n- prices: Invalid input: expected array",
    );
    expect(error.message).not.toContain("secret");
    expect(error.details).toEqual({
      text: given,
      issues: [
        { path: "title", message: "Invalid input: expected string, received number" },
        { path: "prices", message: "Invalid input: expected array, received string" },
      ],
    });
    expect(JSON.parse(JSON.stringify(error.details))).toEqual(error.details);
  });

  it.each<[string, StandardSchemaV1, object, string]>([
    [
      "valibot",
      v.object({ kind: v.picklist(["a", "b"]) }),
      { kind: "the secret word" },
      '- kind: Invalid type: Expected ("a" | "b") but received "…"',
    ],
    ["valibot, numbers", v.object({ n: v.string() }), { n: 4_111_222 }, "- n: Invalid type: Expected string but received …"],
    ["valibot, names", v.strictObject({ a: v.string() }), { a: "x", secret: 1 }, '- secret: Invalid key: Expected never but received "…"'],
    ["arktype", type({ mail: "string.email" }), { mail: "the secret word" }, '- mail must be an email address (was "…")'],
    [
      "arktype, long",
      type({ mail: "string.email" }),
      { mail: `secret ${"and long ".repeat(50)}` },
      '- mail must be an email address (was "…',
    ],
    ["zod, names", z.strictObject({ a: z.string() }), { a: "x", secret: 1 }, '- Unrecognized key: "…"'],
  ])("quotes nothing of the reply, as %s would", async (_name, by, given, line) => {
    const { message, details } = outputInvalid(await invalid(text(JSON.stringify(given)), by), 1);
    expect(message).toContain(line);
    if (!line.includes("secret")) expect(message).not.toContain("secret");
    expect(details["text"]).toBe(JSON.stringify(given));
  });

  it("quotes nothing of any reply", () => {
    const secret = fc.string({ minLength: 3, unit: "grapheme" });
    fc.assert(
      fc.property(
        secret,
        fc.constantFrom<(text: string) => string>(
          (t) => `was "${t}"`,
          (t) => `got ${JSON.stringify(t)}`,
          (t) => `(${t})`,
        ),
        fc.jsonValue(),
        (leaf, say, other) => {
          const message = `At this place: ${say(leaf)}.`;
          fc.pre(!`At this place: ${say("…")}.`.includes(leaf));
          expect(withoutQuotes(message, { other, at: [leaf] })).not.toContain(leaf);
        },
      ),
      { seed: 20_261_122, numRuns: 500 },
    );
  });

  it("keeps the words of the library otherwise", () => {
    expect(withoutQuotes("Expected number, received string at 15", { a: 1, b: "e", c: null, number: "x" })).toBe(
      "Expected number, received string at 15",
    );
    expect(withoutQuotes("was 1.5, not 1 or 15", [1, "not"])).toBe("was 1.5, … … or 15");
  });
});
