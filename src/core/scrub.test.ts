import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bounded, scrub } from "./scrub.ts";

describe("scrub", () => {
  const table: [message: string, scrubbed: string][] = [
    ["Request contains an invalid argument.", "Request contains an invalid argument."],
    [
      "Method doesn't allow unregistered callers, the users' files aren't there.",
      "Method doesn't allow unregistered callers, the users' files aren't there.",
    ],
    [
      `Unknown name "responseSchem" at 'requests[0]': Cannot find field.`,
      `Unknown name "responseSchem" at 'requests[0]': Cannot find field.`,
    ],
    [
      "Invalid value at 'batch.input_config.requests.requests[16].request.contents' (TYPE_STRING), my prompt",
      "Invalid value at 'batch.input_config.requests.requests[16].request.contents' (TYPE_STRING), […]",
    ],
    ["Bad value (type.googleapis.com/google.rpc.Status), {x}", "Bad value (type.googleapis.com/google.rpc.Status), […]"],
    ["models/gemini-9 is not found for API version v1beta", "models/gemini-9 is not found for API version v1beta"],
    [
      "Bad request with key 'r12.1' in files/batch-31u18uq6dr4ods3957z38i1mbfa581k01xcq",
      "Bad request with key 'r12.1' in files/batch-31u18uq6dr4ods3957z38i1mbfa581k01xcq",
    ],
    // Quoted text
    ['Unknown "my secret prompt" here', 'Unknown "…" here'],
    ["Unknown 'my secret prompt' here", 'Unknown "…" here'],
    ["Unknown `my secret prompt` here", 'Unknown "…" here'],
    ["Unknown “my secret prompt” here", 'Unknown "…" here'],
    ["Unknown 'I don't say it, it's a secret' here", 'Unknown "…" here'],
    ['He said "she said \\"a secret\\" to me" then', 'He said "…" then'],
    ['cut off "my secret prom', 'cut off "…"'],
    ["cut off 'my secret prom", 'cut off "…"'],
    [`Token "${"a".repeat(41)}" is unknown`, 'Token "…" is unknown'],
    [`At "${"a.".repeat(60)}b"`, 'At "…"'],
    ['Failed to parse row: {"contents":[{"parts":[{"text":"secret"}]}]}', "Failed to parse row: {…}"],
    ['Failed to parse row: [{"text":"secret"}]', "Failed to parse row: {…}"],
    ["Unexpected token.\nmy secret prompt\n^", "Unexpected token."],
    ["Unexpected token.\u2028my secret prompt", "Unexpected token."],
    // Keys
    ["Consumer 'api_key:AIzaSyA1234567890123456789012345678901' has been suspended.", "Consumer 'api_key:[key]' has been suspended."],
    ["Consumer api_key:AIzaSyA1234567890123456789012345678901 has been suspended.", "Consumer api_key:[key] has been suspended."],
    ["x-goog-api-key: not-a-google-key was refused", "x-goog-api-key: [key] was refused"],
    ["Authorization: Bearer abc.def-ghi was refused", "Authorization: Bearer [key] was refused"],
    ["bearer ya29.a0AfH6SMB-x was refused", "bearer [key] was refused"],
    ["the secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw is wrong", "the secret [key] is wrong"],
    ["token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln was refused", "token [key] was refused"],
    ["key=0123456789abcdef0 was refused", "key=[key] was refused"],
    ["key=r12.1 was refused", "key=r12.1 was refused"],
    [`hash ${"0123456789abcdef".repeat(4)} differs`, "hash […] differs"],
    // URLs
    ["See https://x.example/upload/files?upload_id=SECRET&k=1 now", "See https://x.example/upload/files?[query] now"],
    ["See https://user:pass@x.example/a now", "See https://x.example/a now"],
    ["See gs://bucket/a?X-Goog-Signature=SECRET", "See gs://bucket/a?[query]"],
    ["See /upload/files?upload_id=SECRET&alt=media now", "See /upload/files?upload_id=[…]&alt=[…] now"],
    ["See https://ai.google.dev/gemini-api/docs/rate-limits.", "See https://ai.google.dev/gemini-api/docs/rate-limits."],
  ];
  it.each(table)("%j", (message, scrubbed) => {
    expect(scrub(message)).toBe(scrubbed);
  });

  it("is short", () => {
    expect(scrub("word ".repeat(1_000))).toHaveLength(300);
    expect(bounded("abcdef", 4)).toBe("abc…");
    expect(bounded("abcd", 4)).toBe("abcd");
  });

  const settings = { seed: 20_261_122, numRuns: 500 };
  const among = (characters: string) => fc.constantFrom(...characters.split(""));
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const secret = (length: number) => fc.string({ unit: among(digits), minLength: length, maxLength: length + 20 });
  const around = fc.string({ unit: among("abc ,.;:'\"`()[]{}=&?/-\u00e4“’"), maxLength: 30 });

  it("lets no planted key through, whatever stands around it", () => {
    const planted = fc.oneof(
      secret(35).map((body) => [`AIza${body}`, body] as const),
      secret(20).map((body) => [`ya29.${body}`, body] as const),
      secret(20).map((body) => [`Bearer ${body}`, body] as const),
      secret(20).map((body) => [`x-goog-api-key: ${body}`, body] as const),
      secret(20).map((body) => [`key=${body}`, body] as const),
      secret(20).map((body) => [`https://x.example/a?upload_id=${body}`, body] as const),
      secret(20).map((body) => [`https://x.example/a?alt=media&X-Goog-Signature=${body}`, body] as const),
      secret(64).map((body) => [body, body] as const),
    );
    fc.assert(
      fc.property(around, planted, around, (before, [text, body], after) => {
        // A letter or digit right before would make it part of another word.
        expect(scrub(`${before.replace(/[\p{L}\p{N}_]+$/u, "")}${text}${after.replace(/^[\w.-]+/, "")}`)).not.toContain(body);
      }),
      settings,
    );
  });

  it("lets no quoted text of more than a few words through", () => {
    const words = fc.array(fc.constantFrom("my", "secret", "prompt", "don't", "über", "x=1", "…", "(a)", "b:c"), {
      minLength: 8,
      maxLength: 30,
    });
    const marks = fc.constantFrom(["'", "'"], ['"', '"'], ["`", "`"], ["“", "”"], ["«", "»"]);
    const calm = fc.string({ unit: among("abc ,.;:()="), maxLength: 30 });
    fc.assert(
      fc.property(calm, words, marks, calm, (before, text, [open, close], after) => {
        const quoted = text.join(" ");
        expect(scrub(`${before} ${open}${quoted}${close} ${after}`)).not.toContain(quoted.slice(0, 20));
        expect(scrub(`${before} ${open}${quoted}`)).not.toContain(quoted.slice(0, 20));
      }),
      settings,
    );
  });

  it("is bounded, of one line, and changes nothing the second time", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: "binary", maxLength: 400 }),
          fc.array(fc.constantFrom(...table.map(([message]) => message)), { maxLength: 4 }).map((parts) => parts.join(" ")),
        ),
        (text) => {
          const once = scrub(text);
          expect(once.length).toBeLessThanOrEqual(300);
          expect(once).not.toMatch(/[\r\n\u2028\u2029]/);
          expect(scrub(once)).toBe(once);
        },
      ),
      settings,
    );
  });

  it("takes no longer than its input is long", () => {
    // Each would take for ever if a pattern went back and forth.
    expect(scrub(`"${"/".repeat(119)}!"`)).toBe('"…"');
    for (const part of ["'a", '"\\', "a://", "key:", "?a=", "{[", "a.", "((TYPE_A"])
      expect(scrub(part.repeat(100_000)).length).toBeLessThanOrEqual(300);
  });
});
