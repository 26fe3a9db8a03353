import type { IncomingMessage, ServerResponse } from "node:http";
import type { Gembatch } from "../client/gembatch.ts";
import type { Clock } from "../core/clock.ts";
import type { FunctionsOptions } from "./options.ts";

/** How long after a webhook the handler may still have a hint to give: it gives one a second. */
const lastHintMs = 1_000;

/** A request as Cloud Functions give it: its body has been read. */
export type RequestWithBody = IncomingMessage & { rawBody?: Uint8Array };

const handlers = new WeakMap<Gembatch, (request: Request) => Promise<Response>>();

/** Passes a webhook on to the handler of the instance. */
export async function answerWebhook(
  { instance, clock, options }: { instance: () => Promise<Gembatch>; clock: Clock; options: FunctionsOptions },
  request: RequestWithBody,
  response: ServerResponse,
): Promise<void> {
  const gembatch = await instance();
  const handle = handlers.get(gembatch) ?? gembatch.webhook(webhookOptions(options.webhook));
  handlers.set(gembatch, handle);
  const answer = await handle(toRequest(request));
  // What goes on after the answer has no processor.
  if (answer.status === 200) await clock.sleep(lastHintMs);
  response.statusCode = answer.status;
  answer.headers.forEach((value, name) => response.setHeader(name, value));
  response.end();
}

function webhookOptions(webhook: FunctionsOptions["webhook"]) {
  const { secret, ...rest } = typeof webhook === "object" ? webhook : {};
  if (!secret) return rest;
  const secrets = (process.env[webhookSecret] ?? "").split(",").map((text) => text.trim());
  return { ...rest, secret: secrets };
}

export const webhookSecret = "GEMBATCH_WEBHOOK_SECRET";

function toRequest({ method = "GET", headers, rawBody }: RequestWithBody): Request {
  const list = Object.entries(headers).flatMap(([name, value]) => [value ?? []].flat().map((text): [string, string] => [name, text]));
  const body = method === "GET" || method === "HEAD" || rawBody === undefined ? {} : { body: new Uint8Array(rawBody) };
  // Its address is of no importance, and not known behind a load balancer.
  return new Request("https://webhook.invalid/", { method, headers: list, ...body });
}
