/** The parts of undici's dispatcher that are used; Node's fetch sends through it. */
interface Dispatcher {
  dispatch(options: object, handler: object): boolean;
}

/**
 * Node's fetch gives up when an answer has not begun after 300 seconds, or has paused for so long (undici's `headersTimeout` and `bodyTimeout`); a flex call may take
 * fifteen minutes. Both are options of each request, but only a dispatcher can set them, and without undici as a dependency there is none to construct. So the one that
 * is in place, with its connections and whatever proxy somebody has set, is handed to fetch under options of our own.
 */
export const patientFetch: typeof globalThis.fetch = (input, init) => {
  const inPlace = globalDispatcher();
  if (inPlace === undefined) return globalThis.fetch(input, init);
  const dispatch: Dispatcher["dispatch"] = (options, handler) =>
    inPlace.dispatch({ ...options, headersTimeout: 0, bodyTimeout: 0 }, handler);
  const dispatcher = Object.create(inPlace, { dispatch: { value: dispatch } }) as Dispatcher;
  return globalThis.fetch(input, { ...init, dispatcher } as RequestInit);
};

/** Where undici keeps it, in Node and in the npm package alike: under `.1` until version 7, under `.2` from 8 on. */
export const dispatcherKey = Symbol.for(`undici.globalDispatcher.${Number.parseInt(process.versions["undici"] ?? "", 10) >= 8 ? 2 : 1}`);

/** `undefined`: this runtime has none there. */
function globalDispatcher(): Dispatcher | undefined {
  // Node loads undici when something of it is touched first.
  void globalThis.Request;
  return (globalThis as unknown as Record<symbol, Dispatcher | undefined>)[dispatcherKey];
}
