import { GembatchError } from "../core/errors.ts";
import { readReference, type PayloadReference, type PayloadStore } from "../core/payload-store.ts";
import type { Gate } from "./gate.ts";

/** What was found under a reference. */
export type Found = { text: string } | { error: GembatchError };

/** Characters of texts that are kept because they may be asked for again soon: who awaits a run looks at it four times a second. */
const keptCharacters = 8_000_000;

/** Gets texts by their references, side by side, each once. */
export class PayloadReader {
  readonly #store: PayloadStore | undefined;
  readonly #gate: Gate;
  readonly #kept = new Map<string, string>();
  #keptCharacters = 0;

  constructor(store: PayloadStore | undefined, gate: Gate) {
    this.#store = store;
    this.#gate = gate;
  }

  /** What lies behind those of the stored texts that are references. Never rejects: each text has its own answer. */
  async read(stored: Iterable<string | undefined>): Promise<ReadonlyMap<string, Found>> {
    const found = new Map<string, Found>();
    const wanted = new Map<string, PayloadReference>();
    for (const text of stored) {
      const reference = text === undefined || wanted.has(text) ? undefined : readReference(text);
      if (reference) wanted.set(text!, reference);
    }
    await Promise.all([...wanted].map(async ([text, reference]) => found.set(text, await this.#get(reference))));
    return found;
  }

  async #get({ key, bytes }: PayloadReference): Promise<Found> {
    const store = this.#store;
    if (!store) return { error: noStore() };
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return { text: kept };
    }
    try {
      const text = await this.#gate.pass(async () => store.get(key));
      if (Buffer.byteLength(text) !== bytes) return { error: changed(store, key) };
      this.#keep(key, text);
      return { text };
    } catch (thrown) {
      return { error: toPayloadError(thrown, `${store.name} could not be read`) };
    }
  }

  #keep(key: string, text: string): void {
    if (text.length > keptCharacters / 8 || this.#kept.has(key)) return;
    this.#kept.set(key, text);
    this.#keptCharacters += text.length;
    for (const [oldest, { length }] of this.#kept) {
      if (this.#keptCharacters <= keptCharacters) return;
      this.#kept.delete(oldest);
      this.#keptCharacters -= length;
    }
  }
}

/** What a payload store throws that does not keep to its port is taken for a passing failure. What it said stays in the cause. */
export function toPayloadError(thrown: unknown, what: string): GembatchError {
  if (GembatchError.is(thrown) && (thrown.code === "payload_missing" || thrown.code === "payload_unavailable")) return thrown;
  const name = thrown instanceof Error ? ` (${thrown.name})` : "";
  return new GembatchError("payload_unavailable", `The payload store ${what}${name}.`, { retryable: true, cause: thrown });
}

/** The same error, with whose payload it is about. */
export function about(what: string, error: GembatchError): GembatchError {
  const said = error.hint && error.message.endsWith(error.hint) ? error.message.slice(0, -error.hint.length).trimEnd() : error.message;
  return new GembatchError(error.code, `A payload of ${what} cannot be had: ${said}`, {
    retryable: error.retryable,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    details: error.details,
    cause: error,
  });
}

function noStore(): GembatchError {
  return new GembatchError("payload_unavailable", "It lies in a payload store, and none is set.", {
    retryable: true,
    hint: "Set option payloads as it was when the payload was stored.",
  });
}

function changed({ name }: PayloadStore, key: string): GembatchError {
  return new GembatchError("payload_missing", `What ${name} has under this key is not what was written.`, {
    hint: "Restore the object from a backup or an older version.",
    details: { key },
  });
}
