/** What a prompt is answered with: REST text and its content type. */
export interface Answer {
  text: string;
  contentType: "application/json" | "text/event-stream";
}

const headers = {
  "application/json": new Headers({ "content-type": "application/json" }),
  "text/event-stream": new Headers({ "content-type": "text/event-stream" }),
};

/**
 * A `Response` whose body is text that is there already. A plain one would encode it, wrap it into a stream, read that back and decode it again,
 * which at every replay of every prompt is the larger part of the work.
 */
export function storedResponse(answer: Answer, status = 200): Response {
  return new StoredResponse(answer, status) as unknown as Response;
}

// The library types of Response declare its methods as properties, which a class cannot override.
const PlainResponse = Response as unknown as new (body: null, init: ResponseInit) => object;

class StoredResponse extends PlainResponse {
  readonly #answer: Answer;
  readonly #status: number;
  #used = false;
  /** Made when the body is wanted as a stream. */
  #plain: Response | undefined;

  constructor(answer: Answer, status: number) {
    super(null, { status, headers: headers[answer.contentType] });
    this.#answer = answer;
    this.#status = status;
  }

  get body(): ReadableStream | null {
    this.#plain ??= new Response(this.#take());
    return this.#plain.body;
  }

  get bodyUsed(): boolean {
    return this.#plain?.bodyUsed ?? this.#used;
  }

  async text(): Promise<string> {
    return this.#take();
  }

  async json(): Promise<unknown> {
    return JSON.parse(this.#take()) as unknown;
  }

  async bytes(): Promise<Uint8Array> {
    return new TextEncoder().encode(this.#take());
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    return new TextEncoder().encode(this.#take()).buffer;
  }

  async blob(): Promise<Blob> {
    return new Blob([this.#take()], { type: this.#answer.contentType });
  }

  clone(): StoredResponse {
    if (this.#used) throw new TypeError("Response.clone: Body has already been consumed.");
    return new StoredResponse(this.#answer, this.#status);
  }

  #take(): string {
    if (this.#used) throw new TypeError("Body is unusable: Body has already been read");
    this.#used = true;
    return this.#answer.text;
  }
}
