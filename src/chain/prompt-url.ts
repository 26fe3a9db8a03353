/** A call of the Gemini or Vertex REST API that can travel in a batch job. */
export interface PromptTarget {
  /** Which API the URL belongs to. */
  api: "gemini" | "vertex";
  /** As written in the URL: `gemini-2.5-flash`, `tunedModels/x`, `publishers/google/models/x`, `projects/…`. Of `chatCompletions`: empty, because it stands in the body. */
  model: string;
  /** The last three: models of other publishers, on Vertex. */
  method: GoogleMethod | "rawPredict" | "streamRawPredict" | "chatCompletions";
  /** `alt=sse`: a stream is answered as server-sent events, else as a JSON array. */
  sse: boolean;
}

type GoogleMethod = "generateContent" | "streamGenerateContent" | "embedContent" | "batchEmbedContents";

const pattern =
  /^\/(?:v\d+[a-z]*\d*\/)?(.+):(generateContent|streamGenerateContent|embedContent|batchEmbedContents|rawPredict|streamRawPredict)$/;
/** The OpenAI form of Vertex, for models of all publishers. */
const chatPattern = /\/endpoints\/openapi\/chat\/completions$/;

/** A program calls a handful of URLs, each at every replay of every prompt. */
const parsed = new Map<string, PromptTarget | undefined>();
const maxParsed = 500;

/**
 * Recognises `…/models/{model}:generateContent` and its siblings, `…/publishers/{publisher}/models/{model}:rawPredict` and `…/endpoints/openapi/chat/completions` by the path, whatever the
 * host: proxies and emulators have their own.
 */
export function parsePromptUrl(url: string): PromptTarget | undefined {
  if (parsed.has(url)) return parsed.get(url);
  if (parsed.size >= maxParsed) parsed.clear();
  const target = parse(url);
  parsed.set(url, target);
  return target;
}

/** Both forms at the end of a path: what stands before is the host's own. */
const vertexModel = /(?:^|\/)((?:projects\/[^/]+\/(?:locations\/[^/]+\/)?)?(?:publishers\/[^/]+\/models\/[^/]+|endpoints\/[^/]+))$/;
const geminiModel = /(?:^|\/)(?:models\/([^/]+)|(tunedModels\/[^/]+))$/;

/** What every URL of a prompt has in it. */
const hint = /Content|awPredict|chat\/completions/;
/** A model of another publisher. `count-tokens` is none: by that name Anthropic's SDK counts. */
const foreignModel = /(?:^|\/)publishers\/(?!google\/)[^/]+\/models\/(?!count-tokens$)[^/]+$/;

function parse(url: string): PromptTarget | undefined {
  // Most URLs of a program are none; taking one apart costs more than this.
  if (!hint.test(url)) return undefined;
  const parts = URL.parse(url);
  const path = parts && decodePath(parts.pathname);
  if (!path) return undefined;
  if (chatPattern.test(path)) return { api: "vertex", model: "", method: "chatCompletions", sse: false };
  const match = pattern.exec(path);
  if (!match) return undefined;
  const [, resource, method] = match as unknown as [string, string, PromptTarget["method"]];
  if ((method === "rawPredict" || method === "streamRawPredict") && !foreignModel.test(resource)) return undefined;
  const sse = parts.searchParams.get("alt") === "sse";
  const vertex = vertexModel.exec(resource)?.[1];
  if (vertex !== undefined) return { api: "vertex", model: vertex, method, sse };
  const gemini = geminiModel.exec(resource);
  const model = gemini?.[1] ?? gemini?.[2];
  return model === undefined ? undefined : { api: "gemini", model, method, sse };
}

/** Without escapes; a part whose escapes are no text is left as it is. */
function decodePath(path: string): string {
  return path.includes("%") ? path.split("/").map(decodePart).join("/") : path;
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
