/** `npm run test:thorough` runs long courses whole; `npm test` takes a part of them, the same at every run. */
export const isThorough = process.env["MODE"] === "thorough";

/** Which crash points of a course are taken: all of them, or every n-th. */
export const everyNth = (n: number): number => (isThorough ? 1 : n);
