/**
 * Bytes that arrive in pieces.
 *
 * @module
 */

/** Hands every piece on. `cutAt` drops the connection after so many bytes, and then answers `false`; what was handed on by then stays. */
export async function receive(
  chunks: AsyncIterable<Uint8Array>,
  cutAt: number | undefined,
  take: (piece: Uint8Array) => Promise<void>,
): Promise<boolean> {
  let left = cutAt ?? Infinity;
  for await (const chunk of chunks) {
    const piece = chunk.length > left ? chunk.subarray(0, left) : chunk;
    await take(piece);
    left -= piece.length;
    if (left <= 0) return false;
  }
  return cutAt === undefined;
}
