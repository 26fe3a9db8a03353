/**
 * The Google APIs that `gembatch init` and `gembatch doctor` call, as a server with a state. It is strict: a path, a parameter or a field that it does not know is answered with 400, and stopping
 * the server throws. Written from Google's published references, never compared with the services.
 *
 * @module
 */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { Hono } from "hono";
import { Refusal, requireFields, type GoogleRequest, type Route } from "./google-wire.ts";
import { routes } from "./google-routes.ts";
import { createState, type GoogleState } from "./google-state.ts";

export interface Google extends AsyncDisposable {
  /** For `GEMBATCH_GOOGLE_ENDPOINT`. */
  readonly url: string;
  readonly state: GoogleState;
  /** Every call, as `METHOD host/path`. */
  readonly calls: string[];
  /** Those that changed something, or would have. */
  readonly changes: string[];
  /** Credentials and the project that is charged, as `AUTHORIZATION PROJECT`. */
  readonly headers: ReadonlySet<string>;
}

export async function startGoogle(): Promise<Google> {
  const state = createState();
  const calls: string[] = [];
  const changes: string[] = [];
  const problems: string[] = [];
  const headers = new Set<string>();
  const app = new Hono();

  app.all("*", async (context) => {
    const url = new URL(context.req.url);
    const [, host = "", ...rest] = url.pathname.split("/");
    const path = `/${rest.join("/")}`;
    const { method } = context.req;
    calls.push(`${method} ${host}${path}`);
    headers.add(`${context.req.header("authorization")} ${context.req.header("x-goog-user-project")}`);
    try {
      const route = routes.find((one) => one.method === method && one.host === host && one.path.test(path));
      if (!route) throw new Refusal(400, "INVALID_ARGUMENT", `There is no ${method} ${host}${path}.`, "unknown path");
      if (route.changes) changes.push(`${method} ${host}${path}`);
      const request: GoogleRequest = {
        match: route.path
          .exec(path)!
          .slice(1)
          .map((part) => decodeURIComponent(part)),
        query: url.searchParams,
        header: (name) => context.req.header(name),
        text: await context.req.text(),
        body: {},
      };
      return await answer(state, route, path, request);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.problem !== undefined) problems.push(`${method} ${host}${path}: ${error.problem}`);
      return Response.json(error.body(host), { status: error.status });
    }
  });

  const server = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false }) as Server;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    state,
    calls,
    changes,
    headers,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      if (problems.length > 0) throw new Error(`No real service would take this:\n${problems.join("\n")}`);
    },
  };
}

async function answer(state: GoogleState, route: Route, path: string, request: GoogleRequest): Promise<Response> {
  interfere(state, route, path);
  for (const name of request.query.keys())
    if (!route.query?.includes(name)) throw new Refusal(400, "INVALID_ARGUMENT", `Unknown name "${name}".`, `parameter ${name}`);
  if (route.body === "text") return toResponse(route.handle(state, request));
  if (route.body === undefined && request.text !== "") throw new Refusal(400, "INVALID_ARGUMENT", "A body.", "a body");
  if (route.body !== undefined) {
    if (!request.header("content-type")?.startsWith("application/json"))
      throw new Refusal(400, "INVALID_ARGUMENT", "Not JSON.", "content-type");
    request.body = JSON.parse(request.text) as Record<string, unknown>;
    requireFields(request.body, route.body, "body");
  }
  return toResponse(route.handle(state, request));
}

function toResponse(result: unknown): Response {
  if (typeof result === "string") return new Response(result, { headers: { "content-type": "text/plain" } });
  return result === undefined ? new Response(null, { status: 204 }) : Response.json(result);
}

/** What any call may meet: a service that is down, an API that is off or was switched on just now, missing rights. */
function interfere({ faults, enabled, project }: GoogleState, route: Route, path: string): void {
  const down = faults.down.shift();
  if (down !== undefined) throw new Refusal(down, "UNAVAILABLE", "The service is currently unavailable.");
  const api = route.host;
  const waits = faults.propagating.get(api) ?? 0;
  if (waits > 0) faults.propagating.set(api, waits - 1);
  if (!enabled.has(api) || waits > 0) {
    if (api !== "serviceusage.googleapis.com")
      throw new Refusal(
        403,
        "SERVICE_DISABLED",
        `Some API has not been used in project ${project.number} before or it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/${api}/overview?project=${project.number} then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry.`,
      );
  }
  if (faults.denied.some((pattern) => pattern.test(`${route.method} ${route.host}${path}`)))
    throw new Refusal(403, "PERMISSION_DENIED", "The caller does not have permission");
}
