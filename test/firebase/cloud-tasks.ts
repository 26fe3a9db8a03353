/**
 * Cloud Tasks, as far as the Admin SDK talks to it, over real HTTP and in virtual time: tasks are recorded, and dispatched by whoever asks which of them are due. Names that were used are refused for four hours.
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { ManualClock } from "../../src/testing.ts";

/** How long a name is refused after its task is gone. */
const tombstoneMs = 4 * 3_600_000;

/** The Admin SDK reads the address once for each app: all tests of a process use the same. */
let port = 0;

export interface CloudTask {
  name: string;
  id: string;
  queue: string;
  region: string;
  data: unknown;
  createdAt: number;
  /** When it was asked for. */
  scheduledAt: number;
  /** When it is dispatched next; after a failure later. */
  dispatchAt: number;
  attempts: number;
}

/** What becomes of a task: the instants at which it is dispatched, none if it is lost. */
export type Delivery = (task: CloudTask) => readonly number[];

export class CloudTasks {
  /** Every task that was added, in that order. */
  readonly created: CloudTask[] = [];
  /** Requests that came, refused ones included. */
  requests = 0;
  /** Queues that exist, by `region/name`; `undefined`: all. */
  queues: ReadonlySet<string> | undefined;
  /** Answers instead: an HTTP status and gRPC's word for it. */
  refuse: { status: number; word: string } | undefined;
  delivery: Delivery = (task) => [task.scheduledAt];
  readonly #clock: ManualClock;
  readonly #waiting: CloudTask[] = [];
  readonly #taken = new Map<string, number>();
  readonly #server = createServer((request, response) => {
    void this.#answer(request).then(({ status, body }) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    });
  });

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  /** Listens; resolves with `host:port`, for `CLOUD_TASKS_EMULATOR_HOST`. */
  async listen(): Promise<string> {
    await new Promise<void>((resolve, reject) => this.#server.once("error", reject).listen(port, "127.0.0.1", resolve));
    ({ port } = this.#server.address() as AddressInfo);
    return `127.0.0.1:${port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** When the next task is dispatched. */
  get nextAt(): number | undefined {
    return this.#waiting.length === 0 ? undefined : Math.min(...this.#waiting.map(({ dispatchAt }) => dispatchAt));
  }

  /** Takes the tasks that are dispatched now. */
  takeDue(): CloudTask[] {
    const due = this.#waiting.filter(({ dispatchAt }) => dispatchAt <= this.#clock.now());
    for (const task of due) this.#waiting.splice(this.#waiting.indexOf(task), 1);
    return due;
  }

  /** The task was not answered with success, or not at all: it comes again, as its queue's `retryConfig` says. */
  retry(task: CloudTask, { maxAttempts = 5, minBackoffSeconds = 15 } = {}): void {
    if (task.attempts + 1 >= maxAttempts) return;
    const delayMs = minBackoffSeconds * 1_000 * 2 ** task.attempts;
    this.#waiting.push({ ...task, attempts: task.attempts + 1, dispatchAt: this.#clock.now() + delayMs });
  }

  async #answer(request: IncomingMessage): Promise<{ status: number; body: object }> {
    this.requests += 1;
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const error = (code: number, status: string) => ({ status: code, body: { error: { code, status, message: `${status} of the test` } } });
    if (this.refuse) return error(this.refuse.status, this.refuse.word);
    const path = /^\/projects\/([^/]+)\/locations\/([^/]+)\/queues\/([^/]+)\/tasks$/.exec(request.url ?? "");
    if (request.method !== "POST" || !path) return error(400, "INVALID_ARGUMENT");
    const [, project, region = "", queue = ""] = path;
    if (this.queues && !this.queues.has(`${region}/${queue}`)) return error(404, "NOT_FOUND");
    const { task } = JSON.parse(Buffer.concat(chunks).toString()) as {
      task: { name?: string; scheduleTime?: string; httpRequest: { body: string; headers: Record<string, string> } };
    };
    const now = this.#clock.now();
    const name = task.name ?? `unnamed-${this.created.length}`;
    const prefix = `projects/${project}/locations/${region}/queues/${queue}/tasks/`;
    if (task.name !== undefined && !name.startsWith(prefix)) return error(400, "INVALID_ARGUMENT");
    if ((this.#taken.get(name) ?? -Infinity) > now) return error(409, "ALREADY_EXISTS");
    const scheduledAt = task.scheduleTime === undefined ? now : Date.parse(task.scheduleTime);
    if (scheduledAt > now + 30 * 86_400_000) return error(400, "INVALID_ARGUMENT");
    const { data } = JSON.parse(Buffer.from(task.httpRequest.body, "base64").toString()) as { data: unknown };
    const created: CloudTask = {
      name,
      id: name.slice(prefix.length),
      queue,
      region,
      data,
      createdAt: now,
      scheduledAt,
      dispatchAt: scheduledAt,
      attempts: 0,
    };
    this.#taken.set(name, Math.max(now, scheduledAt) + tombstoneMs);
    this.created.push(created);
    for (const dispatchAt of this.delivery(created)) this.#waiting.push({ ...created, dispatchAt: Math.max(now, dispatchAt) });
    return { status: 200, body: { name } };
  }
}
