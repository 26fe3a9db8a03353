/**
 * Payloads as files: on one machine, or on a file system that all machines share.
 *
 * @module
 */
import { mkdir, open, readFile, rename, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { PayloadStore } from "../core/payload-store.ts";
import { checkNames, requireText } from "./check-options.ts";
import { asPayloadError, missing, unavailable } from "./errors.ts";

export interface FilePayloadsOptions {
  /** The folder; it is made at the first payload. Every process that uses the store must see the same one. */
  path: string;
}

/**
 * Payloads as files below a folder: `<path>/<store id>/<yyyy-mm-dd>/<2 characters>/<id>`. A file appears whole, after it has reached the disk. Throws
 * `invalid_option`.
 */
export function filePayloads(options: FilePayloadsOptions): PayloadStore {
  checkNames(options, ["path"], "filePayloads()");
  return new FilePayloads(resolve(requireText(options.path, "path")));
}

/** Tries of a write whose folder is removed in the same moment, because its last payload was. */
const maxTries = 5;

class FilePayloads implements PayloadStore {
  readonly name = "file";
  readonly #root: string;
  #writes = 0;

  constructor(root: string) {
    this.#root = root;
  }

  async put(key: string, text: string, signal?: AbortSignal): Promise<void> {
    const path = this.#pathOf(key);
    await asPayloadError(`The payload ${key} could not be written below ${this.#root}`, async () => {
      for (let tries = 1; ; tries += 1) {
        signal?.throwIfAborted();
        try {
          await this.#makeFolder(dirname(path));
          await this.#write(path, text);
          return;
        } catch (error) {
          if (codeOf(error) !== "ENOENT" || tries === maxTries) throw error;
        }
      }
    });
  }

  async #write(path: string, text: string): Promise<void> {
    this.#writes += 1;
    const draft = `${path}.${process.pid}.${this.#writes}.tmp`;
    try {
      const file = await open(draft, "wx");
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(draft, path);
    } catch (error) {
      await rm(draft, { force: true }).catch(() => undefined);
      throw error;
    }
    await syncFolder(dirname(path));
  }

  /** Makes the folder, and its entries durable in the folders above it. */
  async #makeFolder(folder: string): Promise<void> {
    const first = await mkdir(folder, { recursive: true });
    if (first === undefined) return;
    for (let made = folder; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made));
  }

  async get(key: string): Promise<string> {
    const path = this.#pathOf(key);
    try {
      return await readFile(path, "utf8");
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw unavailable(`The payload ${key} could not be read below ${this.#root}`, error);
      // A disk that is not mounted has no files either.
      const root = await stat(this.#root).catch(() => undefined);
      if (!root) throw unavailable(`The folder ${this.#root} of the payloads is not there`, error);
      throw missing(this.#root, key, error);
    }
  }

  async delete(keys: readonly string[]): Promise<void> {
    const paths = keys.map((key) => this.#pathOf(key));
    await asPayloadError(`${keys.length} payloads could not be removed below ${this.#root}`, async () => {
      for (const path of paths) await rm(path, { force: true });
    });
    for (const folder of new Set(paths.map(dirname))) {
      // Empty ones go, up to that of the store.
      await rmdir(folder)
        .then(async () => rmdir(dirname(folder)))
        .catch(() => undefined);
    }
  }

  #pathOf(key: string): string {
    const match = /^([\w-]+)\/([\w-]+)\/([\w-]{2,})$/.exec(key);
    if (!match) throw missing(this.#root, key);
    const [, store, day, id] = match as unknown as [string, string, string, string];
    return join(this.#root, store, day, id.slice(0, 2), id);
  }
}

const codeOf = (error: unknown): unknown => (error as { code?: unknown } | undefined)?.code;

/** On Windows a folder cannot be opened; there a rename is durable by itself. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
