import type { Store } from "../../src/core/store.ts";

export interface SubjectParts<S extends Store> {
  /** One more store on the same data, open. */
  open: () => Promise<S>;
  /** Before each of them is closed. */
  beforeClose?: (store: S) => void;
  /** After all of them are closed. */
  dispose: () => Promise<void>;
}

/** What the conformance suite asks for, of a store that any number of processes may open. */
export async function subjectOf<S extends Store>({ open, beforeClose, dispose }: SubjectParts<S>) {
  const opened = new Set<S>();
  const peer = async (): Promise<S> => {
    const store = await open();
    opened.add(store);
    return store;
  };
  const close = async (store: S): Promise<void> => {
    opened.delete(store);
    beforeClose?.(store);
    await store.close();
  };
  const store = await peer();
  return {
    store,
    peer,
    async reopen() {
      await close(store);
      return peer();
    },
    async dispose() {
      for (const item of opened) await close(item);
      await dispose();
    },
  };
}
