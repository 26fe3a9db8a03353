import { ApiError, type Models } from "@google/genai";

/** What the SDK's models hand to its client; not public, so its shape is checked before use. */
interface SdkRequest {
  path: string;
  httpMethod: string;
  body?: string;
  queryParams?: Record<string, unknown>;
  httpOptions?: Record<string, unknown> & { headers?: Record<string, string> };
  abortSignal?: AbortSignal;
}

interface SdkClient {
  request(request: SdkRequest): Promise<{ headers: Record<string, string>; json(): Promise<unknown> }>;
}

const promptPath = /:(?:generateContent|embedContent|batchEmbedContents)$/;

/**
 * Hands prompts to the fetch without the SDK's own way there. URL objects, header merging and abort signals are a quarter of the time of a chain's
 * step (measured, SDK 3.1), and a prompt that travels in a job needs none of them. The SDK's converters before and after it stay. Anything but a
 * plain prompt, and an SDK of another shape, goes the SDK's way. `urlOf` puts the base before a path of the SDK.
 */
export function shortenPromptTransport(models: Models, urlOf: (path: string) => string, fetch: typeof globalThis.fetch): Models {
  const client = (models as unknown as { apiClient?: Partial<SdkClient> }).apiClient;
  const request = client?.request?.bind(client);
  if (!client || !request) return models;
  client.request = async (call) => {
    if (!isPlainPrompt(call)) return request(call);
    const answered = fetch(urlOf(call.path), {
      method: "POST",
      body: call.body,
      ...(call.httpOptions?.headers ? { headers: call.httpOptions.headers } : {}),
      ...(call.abortSignal ? { signal: call.abortSignal } : {}),
    });
    // Not awaited: the prompt would stay in memory until its answer is there.
    return answered.then(toSdkResponse);
  };
  return models;
}

async function toSdkResponse(response: Response): Promise<{ headers: Record<string, string>; json(): Promise<unknown> }> {
  if (!response.ok) throw new ApiError({ message: await response.text(), status: response.status });
  return { headers: { "content-type": "application/json" }, json: async () => response.json() };
}

function isPlainPrompt({ path, httpMethod, body, queryParams, httpOptions }: SdkRequest): boolean {
  return (
    httpMethod === "POST" &&
    typeof body === "string" &&
    promptPath.test(path) &&
    Object.keys(queryParams ?? {}).length === 0 &&
    Object.keys(httpOptions ?? {}).every((key) => key === "headers")
  );
}
