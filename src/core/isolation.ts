/** Batches up to this size are taken apart at once. */
const smallBatch = 32;

/**
 * How many requests may travel together after `failedJobs` jobs failed as a whole with them inside, the last one of `batchSize` requests; `undefined`: any number.
 * One failure may be the provider's. After two, one of the requests may be what breaks the job: alone if they are few, else in groups of the square root, so that a
 * bad request of 10,000 is found with 200 jobs instead of 10,000; after three, alone.
 */
export function isolationSize(failedJobs: number, batchSize: number): number | undefined {
  if (failedJobs < 2) return undefined;
  return failedJobs > 2 || batchSize <= smallBatch ? 1 : Math.ceil(Math.sqrt(batchSize));
}
