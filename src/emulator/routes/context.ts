import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { Context } from "hono";
import type { FaultRule } from "../faults.ts";
import { pageOf } from "../jobs.ts";
import type { Service } from "../service.ts";
import { WireError } from "../wire.ts";
import type { Target } from "./target.ts";

/** Hono's context on a Node server. */
export type HttpContext = Context<{ Bindings: HttpBindings }>;

/** Answers one endpoint. Throws a `WireError` for an error of the service. */
export type Handler = (service: Service, context: HttpContext, target: Target) => Promise<Response> | Response;

/** Breaks the connection without an answer. */
export function breakConnection(context: HttpContext): Response {
  context.env.outgoing.destroy();
  context.env.incoming.socket.destroy();
  return RESPONSE_ALREADY_SENT;
}

/** JSON text as an answer. */
export function jsonText(text: string, status = 200): Response {
  return new Response(text, { status, headers: { "content-type": "application/json; charset=UTF-8" } });
}

/** The address that the client used, for URLs in answers. */
export function baseUrlOf(context: HttpContext): string {
  return new URL(context.req.url).origin;
}

/** One page by `pageSize` and `pageToken`. `next` is `undefined` on the last page: an empty token makes SDK pagers loop. */
export function page<T extends { ordinal: number }>(
  context: HttpContext,
  newestFirst: readonly T[],
  usual: number,
  most: number,
): { items: T[]; next: string | undefined } {
  const size = context.req.query("pageSize") ?? context.req.query("page_size");
  const token = context.req.query("pageToken") ?? context.req.query("page_token");
  const wanted = Number(size ?? 0);
  if (!Number.isInteger(wanted) || wanted < 0) throw new WireError("INVALID_ARGUMENT", "page_size must be a non-negative integer.");
  try {
    return pageOf(newestFirst, Math.min(wanted === 0 ? usual : wanted, most), token === "" ? undefined : token);
  } catch {
    throw new WireError("INVALID_ARGUMENT", "page_token is invalid.");
  }
}

/** Where to cut a body of `length` bytes: at least one byte before its end. */
export function cutOf(rule: FaultRule, length: number): number {
  const at = rule.at ?? 0.5;
  return Math.max(0, Math.min(Math.floor(at < 1 ? length * at : at), length - 1));
}

/** Bytes of a file on disk as an answer, from `start` up to and without `end`; with `cut`, only their beginning. */
export interface FileAnswer {
  path: string;
  status: number;
  headers: Readonly<Record<string, string>>;
  start: number;
  end: number;
  cut: FaultRule | undefined;
}

export async function sendFile(context: HttpContext, { path, status, headers, start, end, cut }: FileAnswer): Promise<void> {
  const { outgoing } = context.env;
  const stop = cut === undefined ? end : Math.max(start, await middleOfLine(path, end, start + cutOf(cut, end - start)));
  const length = cut?.clean === true ? {} : { "content-length": String(end - start) };
  outgoing.writeHead(status, { ...headers, ...length });
  try {
    if (stop > start)
      await pipeline(createReadStream(path, { start, end: stop - 1, highWaterMark: 256 * 1_024 }), outgoing, { end: false });
    if (cut === undefined || cut.clean === true) outgoing.end();
    // Let the bytes leave before the connection breaks.
    else outgoing.socket?.destroySoon();
  } catch {
    outgoing.destroy();
  }
}

/** A position near `at` that has parts of one line on both sides. */
async function middleOfLine(path: string, size: number, at: number): Promise<number> {
  const reach = 64 * 1_024;
  const start = Math.max(0, at - reach);
  const handle = await open(path, "r");
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2 * reach), 0, 2 * reach, start);
    const near = buffer.subarray(0, Math.min(bytesRead, size - start));
    const from = near.lastIndexOf(10, Math.max(0, at - start - 1)) + 1;
    const to = near.indexOf(10, from);
    return start + Math.floor((from + (to === -1 ? near.length : to)) / 2);
  } finally {
    await handle.close();
  }
}
