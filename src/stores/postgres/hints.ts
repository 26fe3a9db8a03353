/**
 * Hints to other processes by LISTEN and NOTIFY. Never more than that: poolers break them silently, connections break, and whoever listens looks by itself all the same.
 */
import { createHash } from "node:crypto";
import { randomText } from "../../core/clock.ts";
import type { Connection } from "./connection.ts";
import type { PgClient } from "./options.ts";
import { pause } from "../patience.ts";

/** A process tells the others at most this often: each hint makes every worker look. */
const EVERY_MS = 200;
/** A hint that takes longer is worth nothing. */
const TEST_MS = 2_000;
/** A connection to listen on that broke is made again after this, and after twice as long with each failure up to the second. */
const AGAIN_MS = [100, 5_000] as const;

export class Hints {
  readonly #connection: Connection;
  readonly #channel: string;
  /** Tells our own from those of others. */
  readonly #own: string;
  readonly #listeners = new Set<() => void>();
  #client: PgClient | undefined;
  #listening = false;
  #stop = new AbortController();
  #sending: Promise<void> | undefined;
  #again = false;
  #heardOwn: (() => void) | undefined;
  /** Whether a hint of our own came back; `undefined` before anybody listened. */
  works: boolean | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#channel = channelOf(connection.settings.schema);
    this.#own = randomText(connection.settings.random, 10);
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    if (!this.#listening) {
      this.#listening = true;
      void this.#listenOn().finally(() => {
        this.#listening = false;
      });
    }
    return () => this.#listeners.delete(listener);
  }

  /** Tells the others, soon and not too often. Nothing waits for it, and nothing fails with it. */
  send(): void {
    if (this.works === false || this.#stop.signal.aborted) return;
    if (this.#sending !== undefined) {
      this.#again = true;
      return;
    }
    this.#again = false;
    this.#sending = this.#send().finally(() => {
      this.#sending = undefined;
      if (this.#again) this.send();
    });
  }

  async #send(): Promise<void> {
    try {
      await this.#connection.query(`SELECT pg_notify($1, $2)`, [this.#channel, this.#own]);
      await pause(EVERY_MS, { signal: this.#stop.signal, background: true });
    } catch {
      // The store's own calls say what is wrong with it.
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#listeners.clear();
    this.#client?.release(true);
    this.#client = undefined;
    await this.#sending;
  }

  /** Listens until the store is closed, and finds out whether that is of any use. */
  async #listenOn(): Promise<void> {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        const ended = Promise.withResolvers<void>();
        const client = await this.#connection.dedicated();
        if (signal.aborted) return client.release(true);
        this.#client = client;
        client.on("error", () => ended.resolve());
        client.on("end", () => ended.resolve());
        client.on("notification", ((message: { channel: string; payload?: string }) => this.#hear(message)) as (
          ...args: unknown[]
        ) => void);
        // This connection alone must not keep the process alive.
        (client as { unref?: () => void }).unref?.();
        await client.query(`LISTEN ${this.#channel}`);
        this.works = await this.#test();
        if (!this.works) {
          this.#client = undefined;
          client.release(true);
          // Whoever breaks one of them breaks the other as well.
          if (!signal.aborted) this.#connection.prepares = false;
          return;
        }
        failures = 0;
        await ended.promise;
        if (this.#client === client) client.release(true);
        this.#client = undefined;
      } catch {
        this.#client?.release(true);
        this.#client = undefined;
      }
      await pause(Math.min(AGAIN_MS[1], AGAIN_MS[0] * 2 ** Math.min(failures, 10)), { signal, background: true });
    }
  }

  async #test(): Promise<boolean> {
    const heard = Promise.withResolvers<boolean>();
    this.#heardOwn = () => heard.resolve(true);
    await this.#connection.query(`SELECT pg_notify($1, $2)`, [this.#channel, this.#own]);
    const limit = pause(TEST_MS, { signal: this.#stop.signal, background: true }).then(() => false);
    return Promise.race([heard.promise, limit]);
  }

  #hear({ channel, payload }: { channel: string; payload?: string }): void {
    if (channel !== this.#channel) return;
    if (payload === this.#own) this.#heardOwn?.();
    else for (const listener of this.#listeners) listener();
  }
}

/** Names of channels have at most 63 characters. */
function channelOf(schema: string): string {
  const name = `gembatch_${schema}`;
  return name.length <= 63 ? name : `gembatch_${createHash("sha256").update(schema).digest("hex").slice(0, 32)}`;
}
