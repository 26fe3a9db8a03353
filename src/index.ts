/**
 * gembatch: LLM prompt chains as sequential code, at batch prices.
 *
 * @module
 */
export { Gembatch, type GembatchOptions } from "./client/gembatch.ts";
export { defineConfig, type GembatchConfig } from "./client/config.ts";
export { Chain, type StartManyOptions, type StartOptions } from "./client/chain.ts";
export { RunHandle } from "./client/run-handle.ts";
export type { MapItem, MapOptions, MapProgress } from "./client/map-runs.ts";
export type {
  EmbedContentRequest,
  GenerateContentRequest,
  Handler,
  HandlerFunction,
  RawRequest,
  SubmitOptions,
  SubmitRequest,
} from "./client/submit.ts";
export type { WorkerHandle, WorkerStartOptions, WorkerStopOptions } from "./client/worker-handle.ts";
export type { LaneRecord } from "./client/lists.ts";
export type { RunSelection } from "./client/runs.ts";
export type { CostDimension, CostLine, CostOptions } from "./client/costs.ts";
export type { ProviderOption, WebhookOptions } from "./client/connect.ts";
export type { Stats } from "./client/stats.ts";
export type { BatchModels, CacheOptions, CallOptions, ChainContext, OnChange, TypedOptions } from "./chain/context.ts";
export type { DefinitionOptions, HandlerOptions } from "./chain/definition.ts";
export type { StandardSchemaV1 } from "./chain/standard-schema.ts";
export type { TypedResponse } from "./chain/typed-output.ts";
export type {
  BatchingOptions,
  DirectTierOptions,
  LaunchOptions,
  PollingOptions,
  RetryOptions,
  TiersOptions,
  WorkerOptions,
} from "./worker/settings.ts";
export { GembatchError, type GembatchErrorCode } from "./core/errors.ts";
export type { Duration } from "./core/duration.ts";
export type { Logger } from "./core/log.ts";
export type { Clock, Random } from "./core/clock.ts";
export { defaultPrices, type Price } from "./core/pricing.ts";
export type { Tier, TierChoice } from "./core/tiers.ts";
export type { Budget } from "./core/budget.ts";
export type { PayloadCodec } from "./core/codec.ts";
export type { RetentionOptions } from "./core/retention.ts";
export type { Usage } from "./core/usage.ts";
export type { BatchRecord, Page, PageOptions, RequestRecord, RunRecord, Store } from "./core/store.ts";
export {
  ProviderError,
  type BatchRow,
  type JobInput,
  type Lane,
  type Provider,
  type ProviderJob,
  type ProviderLimits,
  type ResultRow,
  type StagedInput,
} from "./core/provider.ts";
