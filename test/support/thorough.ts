/** `npm run test:thorough` runs long courses whole; `npm test` takes a part of them, the same at every run. */
export const isThorough = process.env["MODE"] === "thorough";

/** Which crash points of a course are taken: every n-th; in a thorough run all of them, or of a very long course every `thorough`-th. */
export const everyNth = (n: number, thorough = 1): number => (isThorough ? thorough : n);
