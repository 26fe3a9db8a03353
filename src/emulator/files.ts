/**
 * Uploaded files: resumable upload sessions that stream to disk, and what becomes of them after 48 hours.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { open, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { receive } from "./receiving.ts";
import { WireError, wireTime, type JsonObject } from "./wire.ts";

const lifeMs = 48 * 3_600_000;

export interface StoredFile {
  /** Without `files/`. */
  id: string;
  ordinal: number;
  displayName: string | undefined;
  mimeType: string;
  bytes: number;
  /** Lower-case hex. */
  sha256: string;
  createdAt: number;
  path: string;
}

/** An upload under way. What arrived stays when a connection breaks, so that the client can go on from there. */
export interface UploadSession {
  id: string;
  declaredBytes: number | undefined;
  displayName: string | undefined;
  mimeType: string;
  received: number;
  handle: FileHandle;
  hash: Hash;
  path: string;
  /** A chunk is being received. */
  busy: boolean;
  /** Set once the upload is complete. */
  file: StoredFile | undefined;
}

export interface FileStore {
  start(upload: { id?: string; declaredBytes?: number; displayName?: string; mimeType?: string }): Promise<UploadSession>;
  session(id: string): UploadSession;
  /** Appends a chunk; `cutAt` drops the connection after so many of its bytes, and then answers `false`. */
  append(session: UploadSession, chunks: AsyncIterable<Uint8Array>, cutAt?: number): Promise<boolean>;
  finalize(session: UploadSession): Promise<StoredFile>;
  /** A file that exists and has not expired. Otherwise 403, as the service answers. */
  get(id: string): StoredFile;
  delete(id: string): Promise<void>;
  /** Newest first. */
  list(): StoredFile[];
  reset(): Promise<void>;
}

export interface FileStoreOptions {
  dir: string;
  now: () => number;
  maxBytes: number;
  newId: (ordinal: number) => string;
}

export function fileStore({ dir, now, maxBytes, newId }: FileStoreOptions): FileStore {
  const files = new Map<string, StoredFile>();
  const sessions = new Map<string, UploadSession>();
  let ordinal = 0;

  const isAlive = (file: StoredFile) => now() < file.createdAt + lifeMs;

  const store: FileStore = {
    async start({ id: wanted, declaredBytes, displayName, mimeType }) {
      if (declaredBytes !== undefined && declaredBytes > maxBytes) throw tooLarge(maxBytes);
      const id = wanted ?? newId(ordinal);
      if (!/^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/.test(id)) {
        throw new WireError(
          "INVALID_ARGUMENT",
          "Invalid file id: use 1 to 40 lower-case letters, digits and dashes, without a dash at either end.",
        );
      }
      const known = files.get(id);
      if (known && isAlive(known)) throw new WireError("INVALID_ARGUMENT", `Requested entity already exists: files/${id}`);
      ordinal += 1;
      const path = join(dir, `upload-${ordinal}`);
      const session: UploadSession = {
        id,
        declaredBytes,
        displayName,
        mimeType: mimeType ?? "application/octet-stream",
        received: 0,
        handle: await open(path, "w"),
        hash: createHash("sha256"),
        path,
        busy: false,
        file: undefined,
      };
      sessions.set(id, session);
      return session;
    },
    session(id) {
      const session = sessions.get(id);
      if (session === undefined) throw new WireError("NOT_FOUND", "The upload session does not exist.");
      return session;
    },
    async append(session, chunks, cutAt) {
      if (session.busy) throw new WireError("FAILED_PRECONDITION", "Another chunk of this upload is being received.");
      session.busy = true;
      try {
        return await receive(chunks, cutAt, async (piece) => {
          if (session.received + piece.length > maxBytes) throw tooLarge(maxBytes);
          await session.handle.appendFile(piece);
          session.hash.update(piece);
          session.received += piece.length;
        });
      } finally {
        session.busy = false;
      }
    },
    async finalize(session) {
      if (session.file) return session.file;
      const { declaredBytes, received } = session;
      if (declaredBytes !== undefined && declaredBytes !== received) {
        throw new WireError("INVALID_ARGUMENT", `The upload was declared with ${declaredBytes} bytes, but ${received} arrived.`);
      }
      await session.handle.close();
      const file: StoredFile = {
        id: session.id,
        ordinal: (ordinal += 1),
        displayName: session.displayName,
        mimeType: session.mimeType,
        bytes: received,
        sha256: session.hash.digest("hex"),
        createdAt: now(),
        path: session.path,
      };
      session.file = file;
      files.set(file.id, file);
      return file;
    },
    get(id) {
      const file = files.get(id);
      if (file === undefined || !isAlive(file)) throw goneError(id);
      return file;
    },
    async delete(id) {
      const file = store.get(id);
      files.delete(id);
      await rm(file.path, { force: true });
    },
    list: () => [...files.values()].filter(isAlive).toSorted((a, b) => b.ordinal - a.ordinal),
    async reset() {
      const paths = [...[...sessions.values()].map((session) => session.path), ...[...files.values()].map((file) => file.path)];
      await Promise.all(
        [...sessions.values()]
          .filter((session) => session.file === undefined)
          .map((session) => session.handle.close().catch(() => undefined)),
      );
      sessions.clear();
      files.clear();
      await Promise.all(paths.map((path) => rm(path, { force: true })));
    },
  };
  return store;
}

function tooLarge(maxBytes: number): WireError {
  return new WireError("INVALID_ARGUMENT", `The file is larger than the limit of ${maxBytes} bytes.`);
}

/** A missing, foreign or expired file: 403, never 404. */
export function goneError(id: string): WireError {
  return new WireError("PERMISSION_DENIED", `You do not have permission to access the File ${id} or it may not exist.`);
}

/** The File resource. */
export function fileBody(file: StoredFile, baseUrl: string): JsonObject {
  const created = wireTime(file.createdAt, file.ordinal);
  return {
    name: `files/${file.id}`,
    ...(file.displayName === undefined ? {} : { displayName: file.displayName }),
    mimeType: file.mimeType,
    sizeBytes: String(file.bytes),
    createTime: created,
    updateTime: created,
    expirationTime: wireTime(file.createdAt + lifeMs, file.ordinal),
    // Base64 of the hex text, not of the bytes: so the service writes it.
    sha256Hash: Buffer.from(file.sha256).toString("base64"),
    uri: `${baseUrl}/v1beta/files/${file.id}`,
    state: "ACTIVE",
    source: "UPLOADED",
  };
}
