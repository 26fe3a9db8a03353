/**
 * The official emulators of Firebase for functions, task queues and events, with a codebase in them. They are the CLI's own process and one process for each instance of a function; Firestore is the emulator
 * that the other tests use, for the CLI would download one.
 */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { installPrivate } from "../../scripts/private-package.ts";
import { freePort } from "../support/free-port.ts";

export interface FirebaseOptions {
  /** The project's folder: its `firebase.json` is written here. */
  folder: string;
  /** The codebase, within it. */
  source: string;
  project: string;
  region: string;
  /** For the CLI and the functions. */
  env: NodeJS.ProcessEnv;
}

export class Firebase implements AsyncDisposable {
  readonly #options: FirebaseOptions;
  readonly #cli: ChildProcess;
  readonly #port: number;
  #log = "";

  private constructor(options: FirebaseOptions, cli: ChildProcess, port: number) {
    this.#options = options;
    this.#cli = cli;
    this.#port = port;
    for (const stream of [cli.stdout, cli.stderr]) stream?.setEncoding("utf8").on("data", (text: string) => (this.#log += text));
  }

  static async start(options: FirebaseOptions): Promise<Firebase> {
    installPrivate(import.meta.dirname);
    const [functions, tasks, eventarc, hub, logging] = await Promise.all(Array.from({ length: 5 }, freePort));
    const at = (port: number | undefined) => ({ host: "127.0.0.1", port });
    const config = {
      functions: [{ source: options.source, codebase: "default" }],
      emulators: {
        functions: at(functions),
        tasks: at(tasks),
        eventarc: at(eventarc),
        hub: at(hub),
        logging: at(logging),
        ui: { enabled: false },
        singleProjectMode: true,
      },
    };
    writeFileSync(join(options.folder, "firebase.json"), JSON.stringify(config));
    const bin = join(import.meta.dirname, "node_modules", "firebase-tools", "lib", "bin", "firebase.js");
    const cli = spawn(process.execPath, [bin, "emulators:start", "--only", "functions,tasks", "--project", options.project], {
      cwd: options.folder,
      stdio: ["ignore", "pipe", "pipe"],
      // Its settings and its diary stay in the folder.
      env: { ...process.env, ...options.env, XDG_CONFIG_HOME: join(options.folder, "config") },
    });
    const firebase = new Firebase(options, cli, functions!);
    try {
      await firebase.until("the emulators are ready", () => firebase.#log.includes("All emulators ready"));
    } catch (error) {
      await firebase[Symbol.asyncDispose]();
      throw error;
    }
    return firebase;
  }

  /** What the CLI and the functions have said. */
  get log(): string {
    return this.#log;
  }

  /** Waits for something that other processes do. */
  async until<T>(what: string, look: () => Promise<T | undefined | false> | T | undefined | false, limitMs = 120_000): Promise<T> {
    const endsAt = Date.now() + limitMs;
    for (;;) {
      const found = await look();
      if (found !== undefined && found !== false) return found;
      if (this.#cli.exitCode !== null) throw new Error(`The Firebase CLI ended with ${this.#cli.exitCode}:\n${this.#log}`);
      if (Date.now() > endsAt) throw new Error(`Not within ${limitMs / 1_000} s: ${what}. The emulators said:\n${this.#log}`);
      await wait(20);
    }
  }

  /** Calls a function over HTTP: of any kind, a task queue's too. */
  async call(name: string, init: RequestInit & { query?: Record<string, string> } = {}): Promise<Response> {
    const { query = {}, ...rest } = init;
    const { project, region } = this.#options;
    return fetch(`http://127.0.0.1:${this.#port}/${project}/${region}/${name}?${new URLSearchParams(query).toString()}`, rest);
  }

  /** Brings an event to a function, as the emulators of other services do. The schedule is one too: no emulator keeps it. */
  async fire(name: string, type: string, data: unknown): Promise<void> {
    const { project, region } = this.#options;
    const headers = {
      "content-type": "application/json",
      "ce-specversion": "1.0",
      "ce-type": type,
      "ce-source": "//test",
      "ce-id": `${Date.now()}`,
    };
    const url = `http://127.0.0.1:${this.#port}/functions/projects/${project}/triggers/${region}-${name}-0`;
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(data) });
    if (!response.ok) throw new Error(`${name} answered ${response.status}: ${await response.text()}`);
  }

  /** `kill -9` for every instance of every function. Returns how many there were. */
  killInstances(): number {
    const rows = execFileSync("ps", ["-eo", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
    const children = rows.map((row) => row.trim().split(/\s+/).map(Number)).filter(([, parent]) => parent === this.#cli.pid);
    for (const [pid] of children) process.kill(pid!, "SIGKILL");
    return children.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#cli.exitCode !== null || this.#cli.signalCode !== null) return;
    const ended = once(this.#cli, "exit");
    this.#cli.kill("SIGINT");
    const late = setTimeout(() => {
      this.killInstances();
      this.#cli.kill("SIGKILL");
    }, 30_000);
    await ended;
    clearTimeout(late);
  }
}
