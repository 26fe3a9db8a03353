import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { JsonObject } from "../shared/json.ts";
import { lintRow, withoutEmpty } from "./lint.ts";

const contents = [{ role: "user", parts: [{ text: "hi" }] }];
const nested = (levels: number): JsonObject =>
  levels === 0 ? { type: "STRING" } : { type: "OBJECT", properties: { a: nested(levels - 1) } };

describe("rows that fail alone", () => {
  it.each<[string, JsonObject, string, RegExp]>([
    ["an empty tool", { tools: [{ googleSearch: {} }] }, "tools[0].googleSearch", /^an empty object$/],
    [
      "a call without arguments",
      { contents: [{ role: "model", parts: [{ functionCall: { name: "f", args: {} } }] }] },
      "contents[0].parts[0].functionCall.args",
      /^an empty object$/,
    ],
    ["an empty part", { contents: [{ role: "user", parts: [{}] }] }, "contents[0].parts[0]", /^an empty object$/],
    ["a null inside an array", { contents: [{ role: "user", parts: [null] }] }, "contents[0].parts[0]", /^a null inside an array$/],
    [
      "a null among arguments",
      { contents: [{ role: "model", parts: [{ functionCall: { name: "f", args: { ids: [1, null] } } }] }] },
      "contents[0].parts[0].functionCall.args.ids[1]",
      /^a null inside an array$/,
    ],
    [
      "an array inside an array",
      { contents: [{ role: "model", parts: [{ functionCall: { name: "f", args: { points: [[1, 2]] } } }] }] },
      "contents[0].parts[0].functionCall.args.points[0]",
      /^an array inside an array$/,
    ],
    [
      "a schema with $schema",
      { generationConfig: { responseJsonSchema: { $schema: "x" } } },
      "generationConfig.responseJsonSchema.$schema",
      /^a name with/,
    ],
    [
      "a schema with $defs",
      { generationConfig: { responseJsonSchema: { type: "object", $defs: { a: { type: "string" } } } } },
      "generationConfig.responseJsonSchema.$defs",
      /^a name with/,
    ],
    [
      "a name with a space",
      { generationConfig: { responseSchema: { type: "OBJECT", properties: { "first name": { type: "STRING" } } } } },
      'generationConfig.responseSchema.properties."first name"',
      /^a name with/,
    ],
    ["a name with a dot", { labels: { "a.b": "c" } }, 'labels."a.b"', /^a name with/],
    ["a name that begins with a digit", { labels: { "1a": "c" } }, "labels.1a", /begins with a digit$/],
    [
      "a type that is a list in one place and a text in another",
      { generationConfig: { responseJsonSchema: { anyOf: [{ type: "string" }, { type: ["string", "null"] }] } } },
      "generationConfig.responseJsonSchema.anyOf[1].type",
      /^an array where an element before it has a text$/,
    ],
    [
      "an enum of two types",
      { generationConfig: { responseJsonSchema: { enum: ["a", 1] } } },
      "generationConfig.responseJsonSchema.enum[1]",
      /^a number where an element before it has a text$/,
    ],
    [
      "results of two types",
      {
        contents: [
          { role: "user", parts: [{ functionResponse: { name: "f", response: { result: "x" } } }] },
          { role: "user", parts: [{ functionResponse: { name: "f", response: { result: { a: 1 } } } }] },
        ],
      },
      "contents[1].parts.functionResponse.response.result",
      /^an object where an element before it has a text$/,
    ],
  ])("%s", (_name, request, path, what) => {
    const { finding } = lintRow({ contents, ...request });
    expect(finding?.what).toMatch(what);
    expect(finding?.path).toBe(path);
  });

  it("more than 15 levels", () => {
    // request, generationConfig, responseSchema, then properties and a schema for each level.
    const withSchema = (levels: number) => lintRow({ contents, generationConfig: { responseSchema: nested(levels) } }).finding;
    expect(withSchema(6)).toBeUndefined();
    expect(withSchema(7)?.what).toBe("more than 15 levels of objects");
    expect(withSchema(5_000)?.path.length).toBeLessThanOrEqual(120);
  });
});

describe("rows that travel with any others", () => {
  it.each<[string, JsonObject]>([
    ["plain text", {}],
    [
      "a system instruction and settings",
      { systemInstruction: { parts: [{ text: "s" }] }, generationConfig: { temperature: 0.5, stopSequences: [] } },
    ],
    ["nulls of objects", { generationConfig: { temperature: null } }],
    [
      "a schema of their own",
      {
        generationConfig: {
          responseSchema: { type: "OBJECT", properties: { 名前: { type: "STRING", enum: ["a", "b"] }, "last-name": { type: "STRING" } } },
        },
      },
    ],
    [
      "a function",
      { tools: [{ functionDeclarations: [{ name: "f", parameters: { type: "OBJECT", properties: { a: { type: "STRING" } } } }] }] },
    ],
    [
      "pictures and texts mixed",
      { contents: [{ role: "user", parts: [{ text: "a" }, { inlineData: { mimeType: "image/png", data: "AA" } }] }] },
    ],
  ])("%s", (_name, request) => {
    expect(lintRow({ contents, ...request })).toEqual({});
  });
});

describe("rows that fit with their like only", () => {
  const call = (args: unknown, name = "f") => ({ contents: [{ role: "model", parts: [{ functionCall: { name, args } }] }] });
  const json = (schema: unknown) => ({ contents, generationConfig: { responseJsonSchema: schema } });
  const shapeOf = (request: JsonObject) => lintRow(request).shape;

  it.each<[string, JsonObject]>([
    ["arguments", call({ city: "Rome" })],
    ["results", { contents: [{ role: "user", parts: [{ functionResponse: { name: "f", response: { a: 1 } } }] }] }],
    ["a JSON schema", json({ type: "object" })],
    ["a JSON schema in snake case", { contents, generation_config: { response_json_schema: { type: "object" } } }],
    [
      "a JSON schema of a function",
      { contents, tools: [{ functionDeclarations: [{ name: "f", parametersJsonSchema: { type: "object" } }] }] },
    ],
    ["a default in a schema", { contents, generationConfig: { responseSchema: { type: "NUMBER", default: 1 } } }],
    [
      "a default in a parameter",
      {
        contents,
        tools: [
          { functionDeclarations: [{ name: "f", parameters: { type: "OBJECT", properties: { a: { type: "STRING", default: "x" } } } }] },
        ],
      },
    ],
  ])("%s", (_name, request) => {
    expect(shapeOf(request)).toMatch(/^[a-f0-9]{8}$/);
  });

  it("has one shape for the same types, whatever the values, names and order", () => {
    const shape = shapeOf(call({ city: "Rome", days: 3, tags: ["a"] }));
    expect(shapeOf(call({ tags: ["b", "c"], days: 4.5, city: "Oslo" }, "g"))).toBe(shape);
    expect(shapeOf(call({ city: "Oslo", days: 4.5, tags: ["b"], nothing: null, list: [] }))).toBe(shape);
    expect(
      shapeOf({ ...call({ city: "Rome", days: 3, tags: ["a"] }), labels: { a: "b" }, systemInstruction: { parts: [{ text: "s" }] } }),
    ).toBe(shape);
  });

  it("has another for another type, name, or place", () => {
    const requests = [
      call({ city: "Rome" }),
      call({ city: 1 }),
      call({ city: true }),
      call({ city: ["Rome"] }),
      call({ city: { name: "Rome" } }),
      call({ town: "Rome" }),
      call({ "city-s": "Rome" }),
      json({ type: "object" }),
      json({ type: ["object"] }),
      { contents, generationConfig: { responseSchema: { type: "STRING", default: "a" } } },
      { contents, generationConfig: { responseSchema: { type: "STRING", example: "a" } } },
    ];
    expect(new Set(requests.map(shapeOf)).size).toBe(requests.length);
  });

  it("merges the parts of one row: what calls have between them shares columns", () => {
    const two = {
      contents: [
        { role: "model", parts: [{ functionCall: { name: "f", args: { a: 1 } } }, { functionCall: { name: "g", args: { b: "x" } } }] },
      ],
    };
    expect(shapeOf(two)).toBe(shapeOf(call({ a: 2, b: "y" })));
  });
});

describe("empty settings", () => {
  it("are left out where they mean nothing", () => {
    const request = {
      contents,
      generationConfig: { thinkingConfig: {} },
      toolConfig: { functionCallingConfig: {} },
      labels: {},
      tools: [{ functionDeclarations: [{ name: "f", parameters: { type: "OBJECT", properties: {} } }] }],
    };
    expect(withoutEmpty(request)).toEqual({ contents, tools: [{ functionDeclarations: [{ name: "f", parameters: { type: "OBJECT" } }] }] });
    expect(lintRow(withoutEmpty(request))).toEqual({});
  });

  it.each<[string, JsonObject]>([
    ["tools", { tools: [{ googleSearch: {} }, { codeExecution: {} }] }],
    ["arguments", { contents: [{ role: "model", parts: [{ functionCall: { name: "f", args: { labels: {}, generationConfig: {} } } }] }] }],
    [
      "a property of that name",
      {
        generationConfig: {
          responseSchema: { type: "OBJECT", properties: { properties: { type: "OBJECT" }, labels: { type: "STRING" } } },
        },
      },
    ],
    ["a JSON schema", { generationConfig: { responseJsonSchema: { type: "object", properties: { labels: {} } } } }],
    ["nulls and empty arrays", { generationConfig: null, safetySettings: [] }],
  ])("stay where they may mean something: %s", (_name, request) => {
    expect(withoutEmpty(request)).toEqual(request);
  });
});

describe("any request", () => {
  it("is linted without a throw, the same each time, and says no value", () => {
    const json = fc.object({
      maxDepth: 5,
      maxKeys: 4,
      key: fc.oneof(fc.string(), fc.constantFrom("args", "functionCall", "properties", "type", "__proto__", "enum")),
      values: [fc.string(), fc.double(), fc.boolean(), fc.constant(null), fc.constant("SECRET-VALUE")],
    });
    fc.assert(
      fc.property(json, (request) => {
        const lint = lintRow(withoutEmpty(request));
        expect(lintRow(withoutEmpty(request))).toEqual(lint);
        expect(JSON.stringify(lint)).not.toContain("SECRET-VALUE");
        if (lint.shape !== undefined) expect(lint.shape).toMatch(/^[a-z0-9]{1,8}$/);
      }),
      { seed: 20_261_122, numRuns: 300 },
    );
  });
});
