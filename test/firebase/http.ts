/** Calls an HTTP function over a real connection, with its body read beforehand as Cloud Functions do. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

type Called = (request: never, response: never) => unknown;

export async function callFunction(fn: Called, init: RequestInit & { path?: string } = {}): Promise<{ status: number; body: string }> {
  const server = createServer((request: IncomingMessage & { rawBody?: Buffer }, response: ServerResponse) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      request.rawBody = Buffer.concat(chunks);
      await fn(request as never, response as never);
    })().catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const { path = "/", ...rest } = init;
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, rest);
    return { status: answer.status, body: await answer.text() };
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}
