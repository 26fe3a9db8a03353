/**
 * JSON Lines from a stream of bytes: split at line breaks, decoded row by row, nothing held but one line.
 *
 * @module
 */
import { isUtf8 } from "node:buffer";
import { ProviderError, type ResultRow } from "../../core/provider.ts";

const decoder = new TextDecoder("utf-8", { fatal: true });

/** A line as JSON, handed to `decode`; `undefined` for a blank one. Never throws unless `decode` does. */
export function decodeJsonLine(line: Uint8Array, decode: (item: unknown) => ResultRow): ResultRow | undefined {
  let text: string;
  try {
    text = decoder.decode(line);
  } catch {
    return { key: undefined, problem: "a line that is not UTF-8" };
  }
  if (text.trim() === "") return undefined;
  let item: unknown;
  try {
    item = JSON.parse(text);
  } catch {
    return { key: undefined, problem: "a line that is not JSON" };
  }
  return decode(item);
}

/** A line break in a body, legal between tokens, would end the line; it becomes a space. */
export function oneLine(body: string): string {
  return body.includes("\n") || body.includes("\r") ? body.replace(/[\r\n]/g, " ") : body;
}

export interface LineReading {
  chunks: AsyncIterable<Uint8Array>;
  /** How many bytes were announced, if any were. */
  expected: number | undefined;
  maxLineBytes: number;
  decode: (line: Uint8Array) => ResultRow | undefined;
  /** What a failure of the stream means. */
  thrown: (thrown: unknown) => Error;
}

/** The rows of a stream, one a line, in groups as they come. Throws `unavailable` if fewer bytes came than were announced, or the last line was cut. */
export async function* readRows({ chunks, expected, maxLineBytes, decode, thrown }: LineReading): AsyncGenerator<ResultRow[], void> {
  let received = 0;
  const count = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      received += chunk.byteLength;
      yield chunk;
    }
  };
  const groups = splitLines(count(), maxLineBytes);
  try {
    for (;;) {
      let step;
      try {
        step = await groups.next();
      } catch (error) {
        throw thrown(error);
      }
      if (step.done) break;
      const rows: ResultRow[] = [];
      for (const line of step.value) {
        if (line.bytes === undefined) {
          rows.push({ key: undefined, problem: `a line of more than ${maxLineBytes} bytes` });
          continue;
        }
        const row = decode(line.bytes);
        // A bad last line without a line break is a cut, unless the announced length was received: then the file itself is like that.
        if (line.open && row && row.key === undefined && !isJson(line.bytes) && received !== expected) throw cutOff();
        if (row) rows.push(row);
      }
      yield rows;
    }
  } finally {
    await groups.return();
  }
  if (expected !== undefined && received !== expected) throw cutOff();
}

function cutOff(): ProviderError {
  return new ProviderError("unavailable", "The download of the results of a batch job was cut off.");
}

function isJson(line: Uint8Array): boolean {
  if (!isUtf8(line)) return false;
  try {
    JSON.parse(Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString());
    return true;
  } catch {
    return false;
  }
}

/** A line without its line break. `open`: the last one, which had none. No `bytes`: it was too long to keep. */
export interface Line {
  bytes: Uint8Array | undefined;
  open: boolean;
}

/**
 * Splits at 0x0A over bytes: the lines that end in a chunk together, the open last one alone. Never holds more than one line (up to `maxBytes`) and one chunk. In groups because a turn of an
 * async generator costs as much as the splitting of a short line.
 */
export async function* splitLines(chunks: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Line[], void> {
  let parts: Uint8Array[] = [];
  let held = 0;
  let tooLong = false;
  const keep = (part: Uint8Array): void => {
    held += part.byteLength;
    if (held > maxBytes) {
      tooLong = true;
      parts = [];
    } else if (part.byteLength > 0) parts.push(part);
  };
  const take = (open: boolean): Line => {
    const line = { bytes: tooLong ? undefined : parts.length === 1 ? parts[0] : Buffer.concat(parts), open };
    parts = [];
    held = 0;
    tooLong = false;
    return line;
  };
  for await (const chunk of chunks) {
    let start = 0;
    const lines: Line[] = [];
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      keep(chunk.subarray(start, end));
      lines.push(take(false));
      start = end + 1;
    }
    keep(chunk.subarray(start));
    if (lines.length > 0) yield lines;
  }
  if (held > 0) yield [take(true)];
}
