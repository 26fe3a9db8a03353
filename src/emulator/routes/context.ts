import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { Context } from "hono";
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
