import type { Provider } from "../core/provider.ts";
import type { Store } from "../core/store.ts";

/** One call of a port by one process. */
export interface PortCall {
  port: "store" | "provider";
  method: string;
  args: readonly unknown[];
}

/** Stands between a process and its ports: decides when a call is performed, and whether its answer is ever seen. */
export interface Interceptor {
  call<T>(call: PortCall, perform: () => Promise<T>): Promise<T>;
  stream<T>(call: PortCall, open: () => AsyncIterable<T>): AsyncIterable<T>;
}

/** What a process does by itself, with nobody at the other end. */
const local: ReadonlySet<string> = new Set<keyof Provider | keyof Store>([
  "createModels",
  "normalizeModel",
  "methodOf",
  "checkRequest",
  "onHint",
]);
/** What gives its answer piece by piece. */
const streams: ReadonlySet<string> = new Set<keyof Provider>(["readResults"]);

/**
 * The port as one process sees it. Every method goes through the interceptor, those too that the port does not have yet. `close` does nothing: what the
 * processes share lives on.
 */
export function interceptPort<T extends Store | Provider>(port: T, name: PortCall["port"], interceptor: Interceptor): T {
  return new Proxy(port, {
    get(target, property) {
      // Getters and methods may use private fields, which a proxy has not.
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function" || typeof property !== "string") return value;
      if (property === "close") return async () => {};
      if (local.has(property)) return value.bind(target) as unknown;
      return (...args: unknown[]) => {
        const call: PortCall = { port: name, method: property, args };
        const perform = () => Reflect.apply(value, target, args) as unknown;
        if (streams.has(property)) return interceptor.stream(call, () => perform() as AsyncIterable<unknown>);
        return interceptor.call(call, async () => perform());
      };
    },
  });
}

/** The answer that never comes. */
export function never<T>(): Promise<T> {
  return new Promise(() => {});
}
