/**
 * For tests: virtual time, a provider that does what it is told, and the suites that every store and provider passes.
 *
 * @module
 */
export { createTestKit, type TestKit, type TestKitOptions } from "./testing/test-kit.ts";
export {
  crashEverywhere,
  type Beginning,
  type CrashEverywhereOptions,
  type CrashFigures,
  type CrashMode,
  type CrashPoint,
} from "./testing/crash.ts";
export { ManualClock } from "./testing/manual-clock.ts";
export { SeededRandom } from "./testing/seeded-random.ts";
export {
  SteerableProvider,
  textResponse,
  type Answer,
  type SteerableCall,
  type SteerableDirectCall,
  type SteerableJob,
  type SteerableProviderOptions,
} from "./testing/steerable-provider.ts";
export { testProvider, type ProviderSetup, type TestFunctions } from "./testing/provider-conformance.ts";
export { testPayloadStore, type PayloadStoreSetup, type PayloadStoreSubject } from "./testing/payload-conformance.ts";
export { testStore, type StoreSetup, type StoreSubject } from "./testing/store-conformance.ts";
