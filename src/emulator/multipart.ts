/**
 * Bodies of `multipart/related`: JSON about a thing, then the bytes of the thing.
 *
 * @module
 */
import { isObject, WireError, type JsonObject } from "./wire.ts";

/** The most that may stand before the bytes. */
const headBytes = 1_024 * 1_024;

export interface RelatedBody {
  about: JsonObject;
  /** Of the second part. */
  contentType: string | undefined;
  bytes: AsyncIterable<Uint8Array>;
}

/** Reads up to the bytes, which are streamed and never held as a whole. */
export async function readRelated(contentTypeHeader: string, chunks: AsyncIterable<Uint8Array>): Promise<RelatedBody> {
  const boundary = /boundary="?([^";]+)"?/i.exec(contentTypeHeader)?.[1];
  if (boundary === undefined) throw new WireError("INVALID_ARGUMENT", "Multipart content-type without boundary.");
  const source: AsyncIterator<Uint8Array, unknown> = chunks[Symbol.asyncIterator]();
  const delimiter = Buffer.from(`--${boundary}`);
  let head: Buffer = Buffer.alloc(0);
  const more = async (): Promise<void> => {
    const next = await source.next();
    if (next.done === true || head.length > headBytes) throw new WireError("INVALID_ARGUMENT", "Malformed multipart body.");
    head = Buffer.concat([head, next.value]);
  };
  /** The position after the next occurrence, reading on as needed. */
  const after = async (wanted: Buffer | string, from: number): Promise<number> => {
    for (;;) {
      const at = head.indexOf(wanted, from);
      if (at !== -1) return at + wanted.length;
      await more();
    }
  };
  const jsonStart = await after("\r\n\r\n", await after(delimiter, 0));
  const jsonEnd = await after(delimiter, jsonStart);
  const bytesStart = await after("\r\n\r\n", jsonEnd);
  const headers = head.subarray(jsonEnd, bytesStart).toString("latin1");
  const about = parsed(head.subarray(jsonStart, jsonEnd - delimiter.length).toString("utf8"));
  const rest = head.subarray(bytesStart);
  return { about, contentType: /content-type:\s*([^\r\n]+)/i.exec(headers)?.[1], bytes: untilEnd(rest, source, boundary) };
}

function parsed(text: string): JsonObject {
  let value: unknown;
  try {
    value = text.trim() === "" ? {} : JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (!isObject(value)) throw new WireError("INVALID_ARGUMENT", "The first part of a multipart body must be a JSON object.");
  return value;
}

/** The bytes before the closing boundary. Only what could be its beginning is held back. */
async function* untilEnd(first: Buffer, source: AsyncIterator<Uint8Array, unknown>, boundary: string): AsyncGenerator<Buffer> {
  const end = Buffer.from(`\r\n--${boundary}--`);
  const held = end.length + 2;
  let rest = first;
  for (;;) {
    if (rest.length > held) {
      yield rest.subarray(0, rest.length - held);
      rest = rest.subarray(rest.length - held);
    }
    const next = await source.next();
    if (next.done === true) break;
    rest = Buffer.concat([rest, next.value]);
  }
  const at = rest.lastIndexOf(end);
  if (at === -1) throw new WireError("INVALID_ARGUMENT", "Malformed multipart body: it has no end.");
  yield rest.subarray(0, at);
}
