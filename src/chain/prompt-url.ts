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

function parse(url: string): PromptTarget | undefined {
  const colon = url.lastIndexOf(":");
  if (colon < 8) return undefined;
  const { pathname, searchParams } = new URL(url);
  const match = pattern.exec(decodeURIComponent(pathname));
  if (!match) return undefined;
  const resource = match[1]!;
  const method = match[2] as PromptTarget["method"];
  const sse = searchParams.get("alt") === "sse";
  const vertex = /(?:^|\/)(?:projects\/.+\/)?((?:publishers|endpoints)\/.+)$/.exec(resource);
  if (vertex) return { api: "vertex", model: resource.slice(resource.search(/projects\/|publishers\/|endpoints\//)), method, sse };
  const gemini = /(?:^|\/)(?:models\/([^/]+)|(tunedModels\/[^/]+))$/.exec(resource);
  if (gemini) return { api: "gemini", model: gemini[1] ?? gemini[2]!, method, sse };
  return undefined;
}
