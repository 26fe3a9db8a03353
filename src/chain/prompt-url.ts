/** A call of the Gemini or Vertex REST API that can travel in a batch job. */
export interface PromptTarget {
  /** Which API the URL belongs to. */
  api: "gemini" | "vertex";
  /** As written in the URL: `gemini-2.5-flash`, `tunedModels/x`, `publishers/google/models/x`, `projects/…`. */
  model: string;
  method: "generateContent" | "streamGenerateContent" | "embedContent" | "batchEmbedContents";
  /** `alt=sse`: a stream is answered as server-sent events, else as a JSON array. */
  sse: boolean;
}

const pattern = /^\/(?:v\d+[a-z]*\d*\/)?(.+):(generateContent|streamGenerateContent|embedContent|batchEmbedContents)$/;

/** A program calls a handful of URLs, each at every replay of every prompt. */
const parsed = new Map<string, PromptTarget | undefined>();
const maxParsed = 500;

/** Recognises `…/models/{model}:generateContent` and its siblings by the path, whatever the host: proxies and emulators have their own. */
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

function parse(url: string): PromptTarget | undefined {
  // Most URLs of a program are none; taking one apart costs more than this.
  if (!url.includes("Content")) return undefined;
  const parts = URL.parse(url);
  const match = parts && pattern.exec(decodePath(parts.pathname));
  if (!match) return undefined;
  const [, resource, method] = match as unknown as [string, string, PromptTarget["method"]];
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
