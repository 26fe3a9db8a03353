import { createHash } from "node:crypto";

/** What is kept to be shown when a seed fails. */
const keptLines = 120;

/** Everything that happened, as a digest, and the end of it as text. */
export class Trace {
  readonly #hash = createHash("sha256");
  #lines: string[] = [];

  add(line: string): void {
    this.#hash.update(line).update("\n");
    this.#lines.push(line);
    if (this.#lines.length > 10 * keptLines) this.#lines = this.#lines.slice(-keptLines);
  }

  digest(): string {
    return this.#hash.copy().digest("hex").slice(0, 32);
  }

  last(): string[] {
    return this.#lines.slice(-keptLines);
  }
}
