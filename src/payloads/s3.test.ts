import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { S3Client } from "@aws-sdk/client-s3";
import { describe, expect, it, onTestFinished } from "vitest";
import { testPayloadStore } from "../testing/payload-conformance.ts";
import { s3Payloads } from "./s3.ts";

/** The four calls of the S3 protocol, with the bucket in the path, as far as the official client needs them. */
class S3Server {
  readonly objects = new Map<string, Buffer>();
  readonly calls: string[] = [];
  /** Answers everything so, if set. */
  failure: { status: number; code: string } | undefined;
  /** Keys that cannot be removed. */
  readonly locked = new Set<string>();
  readonly #bucket: string;
  readonly #server: Server;

  constructor(bucket: string) {
    this.#bucket = bucket;
    this.#server = createServer((request, response) => {
      void this.#answer(request).then(({ status = 200, body = "", type = "application/xml" }) => {
        response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
        response.end(body);
      });
    });
  }

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(request: IncomingMessage): Promise<{ status?: number; body?: string | Buffer; type?: string }> {
    const { pathname, searchParams } = new URL(request.url!, "http://s3");
    const body = Buffer.concat(await request.toArray());
    const [, bucket, ...names] = decodeURIComponent(pathname).split("/");
    const key = names.join("/");
    this.calls.push(`${request.method} ${bucket}/${key}${searchParams.has("delete") ? "?delete" : ""}`);
    if (this.failure) return error(this.failure.status, this.failure.code);
    if (bucket !== this.#bucket) return error(404, "NoSuchBucket");
    if (request.method === "POST" && searchParams.has("delete")) return this.#remove(body.toString());
    if (request.method === "PUT") {
      this.objects.set(key, body);
      return {};
    }
    const object = this.objects.get(key);
    return object ? { body: object, type: "application/json" } : error(404, "NoSuchKey");
  }

  #remove(xml: string): { status?: number; body: string } {
    const keys = [...xml.matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key]) => key!);
    if (keys.length > 1_000) return error(400, "MalformedXML");
    const failed = keys.filter((key) => this.locked.has(key));
    for (const key of keys) if (!this.locked.has(key)) this.objects.delete(key);
    const errors = failed.map((key) => `<Error><Key>${key}</Key><Code>AccessDenied</Code><Message>locked</Message></Error>`);
    return { body: `<?xml version="1.0"?><DeleteResult>${errors.join("")}</DeleteResult>` };
  }
}

const error = (status: number, code: string) => ({
  status,
  body: `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}.</Message></Error>`,
});

const bucket = "payloads";

async function startS3() {
  const server = new S3Server(bucket);
  const endpoint = await server.start();
  // Two tries without waiting: a refusal shall not take seconds.
  const newClient = () =>
    new S3Client({
      endpoint,
      region: "eu-central-1",
      forcePathStyle: true,
      credentials: { accessKeyId: "id", secretAccessKey: "secret" },
      maxAttempts: 1,
    });
  return { server, endpoint, newClient };
}

testPayloadStore(
  { describe, it, expect },
  {
    name: "S3",
    async create() {
      const { server, newClient } = await startS3();
      const client = newClient();
      const open = () => s3Payloads({ bucket, prefix: "some/folder", client });
      return {
        store: open(),
        peer: async () => open(),
        keys: async () => [...server.objects.keys()].map((key) => key.replace(/^some\/folder\//, "")),
        async break() {
          server.failure = { status: 503, code: "SlowDown" };
        },
        async dispose() {
          client.destroy();
          await server.close();
        },
      };
    },
  },
);

describe("payloads in S3", () => {
  const key = `store/2026-01-02/${"0".repeat(26)}`;

  async function newStore() {
    const { server, endpoint, newClient } = await startS3();
    const client = newClient();
    onTestFinished(async () => {
      client.destroy();
      await server.close();
    });
    return { server, endpoint, client };
  }

  it("are reached with an endpoint and the credentials of the environment", async () => {
    const { server, endpoint } = await newStore();
    const before = { ...process.env };
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "secret" });
    onTestFinished(() => void (process.env = before));
    const store = s3Payloads({ bucket, endpoint, forcePathStyle: true });
    await store.put(key, "text");
    expect(await store.get(key)).toBe("text");
    expect([...server.objects.keys()]).toEqual([key]);
    await store.delete([key]);
    expect(server.calls).toEqual([`PUT ${bucket}/${key}`, `GET ${bucket}/${key}`, `POST ${bucket}/?delete`]);
    await store.close?.();
    await store.close?.();
  });

  it.each([
    [403, "AccessDenied"],
    [404, "NoSuchBucket"],
    [500, "InternalError"],
  ])("do not count as missing when the service answers %d %s", async (status, code) => {
    const { server, client } = await newStore();
    server.failure = { status, code };
    const store = s3Payloads({ bucket, client });
    const thrown: unknown = await store.get(key).catch((reason: unknown) => reason);
    expect(thrown).toMatchObject({ code: "payload_unavailable", retryable: true });
    expect((thrown as Error).message).toContain(code);
  });

  it("that cannot be removed are told", async () => {
    const { server, client } = await newStore();
    const store = s3Payloads({ bucket, client });
    await store.put(key, "text");
    server.locked.add(key);
    await expect(store.delete([key])).rejects.toThrow(/1 of 1 failed, the first with AccessDenied: locked/);
  });

  it("refuse options that they do not know or cannot use", () => {
    expect(() => s3Payloads({} as never)).toThrow(/Option bucket must be a text/);
    expect(() => s3Payloads({ bucket, pathStyle: true } as never)).toThrow(/s3Payloads\(\) has no option "pathStyle"/);
    expect(() => s3Payloads({ bucket, prefix: "/x" })).toThrow(/Option prefix/);
    expect(() => s3Payloads({ bucket, client: {} as never })).toThrow(/Option client must be an object with send/);
    expect(() => s3Payloads({ bucket, forcePathStyle: "yes" as never })).toThrow(/forcePathStyle must be true or false/);
  });
});
