import { describe, expect, it } from "vitest";
import { parsePromptUrl } from "./prompt-url.ts";

const gemini = "https://generativelanguage.googleapis.com";
const vertex = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5";
const claude = "publishers/anthropic/models/claude-sonnet-4-5@20250929";

describe("parsePromptUrl", () => {
  it.each<[string, object]>([
    [
      `${gemini}/v1beta/models/gemini-2.5-flash:generateContent`,
      { api: "gemini", model: "gemini-2.5-flash", method: "generateContent", sse: false },
    ],
    [`${gemini}/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse`, { api: "gemini", method: "streamGenerateContent", sse: true }],
    [`${gemini}/v1beta/tunedModels/mine-1:generateContent`, { api: "gemini", model: "tunedModels/mine-1" }],
    [
      "http://127.0.0.1:8080/proxy/v1beta/models/gemini-embedding-001:batchEmbedContents",
      { api: "gemini", model: "gemini-embedding-001", method: "batchEmbedContents" },
    ],
    [`${gemini}/v1beta/models/gemini-2.5-flash:generateContent?key=secret`, { model: "gemini-2.5-flash" }],
    [
      "https://us-central1-aiplatform.googleapis.com/v1beta1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent",
      { api: "vertex", model: "projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro" },
    ],
    [
      "https://aiplatform.googleapis.com/v1beta1/publishers/google/models/gemini-2.5-pro:generateContent",
      { api: "vertex", model: "publishers/google/models/gemini-2.5-pro" },
    ],
    [`${vertex}/${claude}:rawPredict`, { api: "vertex", model: `projects/p/locations/us-east5/${claude}`, method: "rawPredict" }],
    [`http://127.0.0.1:8080/proxy/v1/${claude.replace("@", "%40")}%3ArawPredict`, { api: "vertex", model: claude, method: "rawPredict" }],
    [`${vertex}/${claude}:streamRawPredict`, { api: "vertex", method: "streamRawPredict" }],
    [`${vertex}/publishers/mistralai/models/mistral-medium-3:rawPredict`, { api: "vertex", method: "rawPredict" }],
    [`${vertex}/endpoints/openapi/chat/completions`, { api: "vertex", model: "", method: "chatCompletions" }],
    ["http://127.0.0.1:8080/v1beta1/endpoints/openapi/chat/completions?x=1", { api: "vertex", model: "", method: "chatCompletions" }],
  ])("%s is a prompt", (url, expected) => {
    expect(parsePromptUrl(url)).toMatchObject(expected);
    expect(parsePromptUrl(url)).toMatchObject(expected);
  });

  it.each([
    `${gemini}/v1beta/models/gemini-2.5-flash:countTokens`,
    `${gemini}/v1beta/models/gemini-2.5-flash`,
    `${gemini}/v1beta/models`,
    `${gemini}/v1beta/files/abc:download?alt=media`,
    `${gemini}/v1beta/batches/x:cancel`,
    `${gemini}/v1beta/models/gemini-2.5-flash:batchGenerateContent`,
    "https://example.com/generateContent",
    `${vertex}/publishers/anthropic/models/count-tokens:rawPredict`,
    `${vertex}/publishers/google/models/gemini-2.5-flash:rawPredict`,
    `${vertex}/endpoints/1234567890:rawPredict`,
    `${vertex}/${claude}:predict`,
    `${vertex}/${claude}/rawPredict`,
    `${vertex}/endpoints/openapi/embeddings`,
    `${vertex}/endpoints/1234567890/chat/completions`,
    "https://api.openai.com/v1/chat/completions",
    "https://example.com/",
  ])("%s passes through", (url) => {
    expect(parsePromptUrl(url)).toBeUndefined();
  });
});
