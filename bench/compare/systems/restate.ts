import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type Http2Server } from "node:http2";
import { createServer as createSocket, type AddressInfo } from "node:net";
import * as restate from "@restatedev/restate-sdk";
import { connect } from "@restatedev/restate-sdk-clients";
import { each, Outside } from "../concurrency.ts";
import { restateServer } from "../prerequisites.ts";
import type { Bench, System, Task } from "../system.ts";

const host = "127.0.0.1";

export const system: System = {
  async chain(task) {
    let steps = 0;
    const service = restate.service({
      name: "chain",
      handlers: {
        run: async (context: restate.Context, n: number) => {
          for (let i = 0; i < task.steps; i += 1) {
            await context.run(`step ${i}`, () => {
              steps += 1;
              return i;
            });
          }
          return n;
        },
      },
    });
    const server = await serve(task, service);
    const client = connect({ url: server.ingress }).serviceClient(service);
    let started = 0;
    let completed = 0;
    return {
      async work(chains) {
        const from = started;
        started += chains;
        await each(from, chains, task.concurrency, async (n) => {
          if ((await client.run(n)) !== n) throw new Error(`Chain ${n} ended with something else.`);
          completed += 1;
        });
      },
      completed: async () => completed,
      get steps() {
        return steps;
      },
      server: server.pid,
      close: server.close,
    } satisfies Bench;
  },

  async suspend(task) {
    const outside = new Outside<string>(task.concurrency, async (id) => ingress.resolveAwakeable(id, id));
    const service = restate.service({
      name: "suspend",
      handlers: {
        run: async (context: restate.Context, n: number) => {
          for (let i = 0; i < task.steps; i += 1) {
            const { id, promise } = context.awakeable<string>();
            outside.announce(id);
            if ((await promise) !== id) throw new restate.TerminalError(`Awakeable ${id} got something else.`);
          }
          return n;
        },
      },
    });
    const server = await serve(task, service);
    const ingress = connect({ url: server.ingress });
    const client = ingress.serviceClient(service);
    let started = 0;
    let completed = 0;
    return {
      async work(chains) {
        const from = started;
        started += chains;
        // All at once: an open call is how its end is noticed.
        await each(from, chains, chains, async (n) => {
          if ((await client.run(n)) !== n) throw new Error(`Chain ${n} ended with something else.`);
          completed += 1;
        });
      },
      completed: async () => completed,
      get steps() {
        return outside.answered;
      },
      server: server.pid,
      close: server.close,
    } satisfies Bench;
  },
};

type Service = restate.ServiceDefinition<string, unknown>;

/** Its server with its own storage in the task's folder, everything on the loopback address, and this process as the service's deployment. */
async function serve({ folder }: Task, service: Service): Promise<{ ingress: string; pid: number; close: () => Promise<void> }> {
  const binary = restateServer();
  if (binary === undefined) throw new Error("There is no Restate server for this platform.");
  const [node, admin, ingress] = await Promise.all([freePort(), freePort(), freePort()]);
  const server = spawn(binary, ["--no-logo", "--listen-mode", "tcp", "--node-name", "bench"], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      PATH: process.env["PATH"],
      HOME: folder,
      RESTATE_BASE_DIR: folder,
      RESTATE_DISABLE_TELEMETRY: "true",
      // It looks for newer releases of itself, and complains where it cannot.
      RESTATE_LOG_FILTER: "error,octocrab=off",
      RESTATE_BIND_IP: host,
      RESTATE_BIND_PORT: `${node}`,
      RESTATE_BIND_ADDRESS: `${host}:${node}`,
      RESTATE_ADVERTISED_HOST: host,
      RESTATE_ADMIN__BIND_ADDRESS: `${host}:${admin}`,
      RESTATE_INGRESS__BIND_ADDRESS: `${host}:${ingress}`,
      DO_NOT_TRACK: "1",
    },
  });
  const stop = () => server.kill("SIGKILL");
  process.once("exit", stop);
  process.once("SIGTERM", () => process.exit(1));
  const endpoint = createServer(restate.createEndpointHandler({ services: [service], logger: () => {} }));
  const port = await listen(endpoint);
  await healthy(server, `http://${host}:${admin}/health`);
  const response = await fetch(`http://${host}:${admin}/deployments`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ uri: `http://${host}:${port}` }),
  });
  if (!response.ok) throw new Error(`Restate refused the deployment: ${response.status} ${await response.text()}`);
  await healthy(server, `http://${host}:${ingress}/restate/health`);
  return {
    ingress: `http://${host}:${ingress}`,
    pid: server.pid ?? 0,
    async close() {
      process.off("exit", stop);
      server.kill("SIGTERM");
      await once(server, "exit");
      endpoint.close();
    },
  };
}

async function listen(server: Http2Server): Promise<number> {
  server.listen(0, host);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function freePort(): Promise<number> {
  const socket = createSocket().listen(0, host);
  await once(socket, "listening");
  const { port } = socket.address() as AddressInfo;
  socket.close();
  await once(socket, "close");
  return port;
}

async function healthy(server: ChildProcess, url: string): Promise<void> {
  for (let tries = 0; tries < 600; tries += 1) {
    if (server.exitCode !== null) throw new Error(`The Restate server ended with code ${server.exitCode}.`);
    const response = await fetch(url).catch(() => undefined);
    if (response?.ok === true) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`Nothing healthy at ${url}.`);
}
