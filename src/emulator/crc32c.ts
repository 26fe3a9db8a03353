/**
 * CRC-32C (Castagnoli), the checksum of Cloud Storage. Node has CRC-32 only.
 *
 * @module
 */

/** Eight tables, so that eight bytes are taken at a time. */
const tables = makeTables();

function makeTables(): readonly Uint32Array[] {
  const first = new Uint32Array(256);
  for (let i = 0; i < 256; i += 1) {
    let value = i;
    for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
    first[i] = value >>> 0;
  }
  const all = [first];
  for (let t = 1; t < 8; t += 1) {
    const before = all[t - 1] as Uint32Array;
    all.push(before.map((value) => ((first[value & 0xff] as number) ^ (value >>> 8)) >>> 0));
  }
  return all;
}

/** The checksum of what came before and of these bytes. Starts with 0. */
export function crc32c(before: number, bytes: Uint8Array): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  const at = (table: Uint32Array, index: number): number => table[index & 0xff] as number;
  const byte = (i: number): number => bytes[i] as number;
  let crc = ~before;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    crc ^= byte(i) | (byte(i + 1) << 8) | (byte(i + 2) << 16) | (byte(i + 3) << 24);
    crc =
      at(t7, crc) ^
      at(t6, crc >>> 8) ^
      at(t5, crc >>> 16) ^
      at(t4, crc >>> 24) ^
      at(t3, byte(i + 4)) ^
      at(t2, byte(i + 5)) ^
      at(t1, byte(i + 6)) ^
      at(t0, byte(i + 7));
  }
  for (; i < bytes.length; i += 1) crc = at(t0, crc ^ byte(i)) ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** As the service writes it: base64 of the four bytes, the highest first. */
export function crcText(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString("base64");
}
