/**
 * `gembatch/payloads`: where large payloads lie, instead of in the rows of the store.
 *
 * @module
 */
export { cloudStoragePayloads, type CloudStorageClient, type CloudStoragePayloadsOptions } from "./payloads/cloud-storage.ts";
export { filePayloads, type FilePayloadsOptions } from "./payloads/file.ts";
export { s3Payloads, type S3ClientLike, type S3PayloadsOptions } from "./payloads/s3.ts";
export type { PayloadOptions, PayloadStore } from "./core/payload-store.ts";
