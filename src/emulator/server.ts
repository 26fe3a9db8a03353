import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer, type HttpBindings } from "@hono/node-server";
import { Hono } from "hono";
import { checkFaults, type EmulatorFaults } from "./faults.ts";
import { checkOptions } from "./check-options.ts";
import type { Ledger, LedgerJob } from "./ledger.ts";
import type { EmulatorOptions } from "./options.ts";
import { batchHandlers, serverError } from "./routes/batches.ts";
import { breakConnection, jsonText, type Handler, type HttpContext } from "./routes/context.ts";
import { bigQueryHandlers } from "./routes/bigquery.ts";
import { cloudTarget } from "./routes/cloud-target.ts";
import { controlRoutes } from "./routes/control.ts";
import { fileHandlers } from "./routes/files.ts";
import { modelHandlers } from "./routes/models.ts";
import { targetOf, type Endpoint, type Target } from "./routes/target.ts";
import { storageHandlers } from "./routes/storage.ts";
import { vertexModelHandlers } from "./routes/vertex-models.ts";
import { vertexHandlers } from "./routes/vertex.ts";
import { createService, type Service } from "./service.ts";
import { htmlErrorPage, invalidKeyError, missingKeyError, throttleError, unauthenticatedError, WireError } from "./wire.ts";

/** A running emulator. */
export interface Emulator extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`: the SDK's `httpOptions.baseUrl`, or `GOOGLE_GEMINI_BASE_URL`; `apiEndpoint` of the clients of Cloud Storage and BigQuery. */
  readonly url: string;
  readonly port: number;
  /** What was asked, and what it would have cost. */
  readonly ledger: Ledger;
  /** The switches, live: `emulator.faults.rowError = { times: 1 }`. Assigning a whole object replaces them all. */
  faults: EmulatorFaults;
  /** The jobs as of now, oldest first, deleted ones included. */
  jobs(): readonly LedgerJob[];
  /** Resolves when no row is being answered and no webhook is on its way: after that, states depend on the clock alone. */
  idle(): Promise<void>;
  /** Forgets jobs, files, objects, tables, ledger and fault counts, and sets the faults of the start again. */
  reset(): Promise<void>;
  /** Breaks open connections, frees the port, removes temporary files. */
  close(): Promise<void>;
}

const handlers: Record<Endpoint, Handler> = {
  ...batchHandlers,
  ...fileHandlers,
  ...modelHandlers,
  ...vertexHandlers,
  ...vertexModelHandlers,
  ...storageHandlers,
  ...bigQueryHandlers,
};

/** Starts an emulator on 127.0.0.1. Rejects when the port is taken or an option is wrong. */
export async function startEmulator(options: EmulatorOptions = {}): Promise<Emulator> {
  const service = createService(checkOptions(options));
  const server = createAdaptorServer({ fetch: createApp(service).fetch, overrideGlobalObjects: false }) as Server;
  server.requestTimeout = 0;
  // As Google's front ends: a client that uses a connection again after some seconds must not find it just being closed.
  server.keepAliveTimeout = 120_000;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(options.port ?? 0, "127.0.0.1", resolve);
    });
  } catch (error) {
    await service.close();
    throw error;
  }
  const { port } = server.address() as AddressInfo;
  let closing: Promise<void> | undefined;
  const close = async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await Promise.all([closed, service.close()]);
  };
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    ledger: service.ledger,
    get faults() {
      return service.faults.settings;
    },
    set faults(settings) {
      service.faults.settings = checkFaults(settings);
    },
    jobs: () => service.ledger.jobs,
    idle: () => service.idle(),
    reset: () => service.reset(),
    close: () => (closing ??= close()),
    [Symbol.asyncDispose]: () => (closing ??= close()),
  };
}

/** The HTTP side of a service. */
export function createApp(service: Service): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>();
  controlRoutes(app, service);
  app.all("*", async (context) => {
    const url = new URL(context.req.url);
    try {
      const { method } = context.req;
      const uploadId = url.searchParams.get("upload_id") ?? undefined;
      const target =
        targetOf(method, url.pathname, uploadId) ??
        cloudTarget({ method, path: url.pathname, uploadId, alt: url.searchParams.get("alt") ?? undefined });
      if (target === undefined) throw new WireError("NOT_FOUND", `The emulator has no endpoint ${method} ${url.pathname}.`);
      service.book.called(target.endpoint);
      service.log(`${method} ${url.pathname}`);
      return (await interfere(service, context, target)) ?? (await handlers[target.endpoint](service, context, target));
    } catch (error) {
      return failure(service, error);
    }
  });
  return app;
}

/** Key check, delays and the faults of any call; `undefined` to go on. */
async function interfere(service: Service, context: HttpContext, { endpoint }: Target): Promise<Response | undefined> {
  const strikes = (name: "latency" | "connectionLost" | "htmlError" | "serverError" | "throttleAny") => service.faults.hit(name, endpoint);
  const latency = strikes("latency");
  const wait = (service.options.latency ?? 0) + (latency ? (latency.ms ?? 100) : 0);
  if (wait > 0) await service.clock.sleep(wait);
  if (strikes("connectionLost")) return breakConnection(context);
  if (strikes("htmlError")) return new Response(htmlErrorPage, { status: 502, headers: { "content-type": "text/html; charset=UTF-8" } });
  const error = strikes("serverError");
  if (error) throw serverError(error);
  const throttle = strikes("throttleAny");
  if (throttle) throw throttleError(throttle.ms ?? 1_000);
  checkKey(service, context, endpoint);
  return undefined;
}

/** Clients of Cloud Storage and BigQuery send an emulator no credentials at all; those of Vertex a token or a key. */
function checkKey({ options: { apiKey } }: Service, { req }: HttpContext, endpoint: Endpoint): void {
  // The URL of an upload session is its own permission.
  if (apiKey === undefined || endpoint === "files.uploadChunk" || /^(?:storage|bigquery)\./.test(endpoint)) return;
  const key = req.header("x-goog-api-key") ?? req.query("key");
  const isVertex = endpoint.startsWith("vertex.");
  if (isVertex && key === undefined && req.header("authorization") !== undefined) return;
  if (key === undefined || key === "") throw isVertex ? unauthenticatedError() : missingKeyError();
  if (key !== apiKey) throw invalidKeyError();
}

function failure(service: Service, error: unknown): Response {
  const known =
    error instanceof WireError
      ? error
      : new WireError("INTERNAL", `The emulator failed: ${error instanceof Error ? error.message : String(error)}`);
  service.log(`  ${known.http} ${known.status}`);
  return jsonText(JSON.stringify(known.body()), known.http);
}
