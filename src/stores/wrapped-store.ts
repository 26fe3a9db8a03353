import type { Store, StoreParams } from "../core/store.ts";

/** A store that hands every call on to another. What is derived from it must look at every method that takes or gives payloads. */
export class WrappedStore implements Store {
  protected readonly store: Store;

  constructor(store: Store) {
    this.store = store;
  }

  get name(): string {
    return this.store.name;
  }

  get id(): string {
    return this.store.id;
  }

  open(): ReturnType<Store["open"]> {
    return this.store.open();
  }

  close(): ReturnType<Store["close"]> {
    return this.store.close();
  }

  onHint(listener: () => void): () => void {
    return this.store.onHint?.(listener) ?? (() => {});
  }

  heartbeat(params: StoreParams<"heartbeat">): ReturnType<Store["heartbeat"]> {
    return this.store.heartbeat(params);
  }

  leave(params: StoreParams<"leave">): ReturnType<Store["leave"]> {
    return this.store.leave(params);
  }

  startRuns(params: StoreParams<"startRuns">): ReturnType<Store["startRuns"]> {
    return this.store.startRuns(params);
  }

  holdFlush(params: StoreParams<"holdFlush">): ReturnType<Store["holdFlush"]> {
    return this.store.holdFlush(params);
  }

  claimRuns(params: StoreParams<"claimRuns">): ReturnType<Store["claimRuns"]> {
    return this.store.claimRuns(params);
  }

  loadHistory(params: StoreParams<"loadHistory">): ReturnType<Store["loadHistory"]> {
    return this.store.loadHistory(params);
  }

  commitTurns(params: StoreParams<"commitTurns">): ReturnType<Store["commitTurns"]> {
    return this.store.commitTurns(params);
  }

  fireTimers(params: StoreParams<"fireTimers">): ReturnType<Store["fireTimers"]> {
    return this.store.fireTimers(params);
  }

  wakeRuns(params: StoreParams<"wakeRuns">): ReturnType<Store["wakeRuns"]> {
    return this.store.wakeRuns(params);
  }

  nextTimers(): ReturnType<Store["nextTimers"]> {
    return this.store.nextTimers();
  }

  activity(params: StoreParams<"activity">): ReturnType<Store["activity"]> {
    return this.store.activity(params);
  }

  activeBatches(): ReturnType<Store["activeBatches"]> {
    return this.store.activeBatches();
  }

  formBatch(params: StoreParams<"formBatch">): ReturnType<Store["formBatch"]> {
    return this.store.formBatch(params);
  }

  moveQueued(params: StoreParams<"moveQueued">): ReturnType<Store["moveQueued"]> {
    return this.store.moveQueued(params);
  }

  dueDeadlines(params: StoreParams<"dueDeadlines">): ReturnType<Store["dueDeadlines"]> {
    return this.store.dueDeadlines(params);
  }

  decideDeadlines(params: StoreParams<"decideDeadlines">): ReturnType<Store["decideDeadlines"]> {
    return this.store.decideDeadlines(params);
  }

  claimBatches(params: StoreParams<"claimBatches">): ReturnType<Store["claimBatches"]> {
    return this.store.claimBatches(params);
  }

  updateBatch(params: StoreParams<"updateBatch">): ReturnType<Store["updateBatch"]> {
    return this.store.updateBatch(params);
  }

  dueSweeps(params: StoreParams<"dueSweeps">): ReturnType<Store["dueSweeps"]> {
    return this.store.dueSweeps(params);
  }

  updateSweep(params: StoreParams<"updateSweep">): ReturnType<Store["updateSweep"]> {
    return this.store.updateSweep(params);
  }

  hastenBatches(params: StoreParams<"hastenBatches">): ReturnType<Store["hastenBatches"]> {
    return this.store.hastenBatches(params);
  }

  readMembers(params: StoreParams<"readMembers">): ReturnType<Store["readMembers"]> {
    return this.store.readMembers(params);
  }

  settleRows(params: StoreParams<"settleRows">): ReturnType<Store["settleRows"]> {
    return this.store.settleRows(params);
  }

  settleRemaining(params: StoreParams<"settleRemaining">): ReturnType<Store["settleRemaining"]> {
    return this.store.settleRemaining(params);
  }

  getRuns(params: StoreParams<"getRuns">): ReturnType<Store["getRuns"]> {
    return this.store.getRuns(params);
  }

  listRuns(params: StoreParams<"listRuns">): ReturnType<Store["listRuns"]> {
    return this.store.listRuns(params);
  }

  getRequest(params: StoreParams<"getRequest">): ReturnType<Store["getRequest"]> {
    return this.store.getRequest(params);
  }

  listRequests(params: StoreParams<"listRequests">): ReturnType<Store["listRequests"]> {
    return this.store.listRequests(params);
  }

  getBatch(params: StoreParams<"getBatch">): ReturnType<Store["getBatch"]> {
    return this.store.getBatch(params);
  }

  listBatches(params: StoreParams<"listBatches">): ReturnType<Store["listBatches"]> {
    return this.store.listBatches(params);
  }

  stats(): ReturnType<Store["stats"]> {
    return this.store.stats();
  }

  spend(params: StoreParams<"spend">): ReturnType<Store["spend"]> {
    return this.store.spend(params);
  }

  hasLiveRuns(): ReturnType<Store["hasLiveRuns"]> {
    return this.store.hasLiveRuns();
  }

  cancelRuns(params: StoreParams<"cancelRuns">): ReturnType<Store["cancelRuns"]> {
    return this.store.cancelRuns(params);
  }

  retryRuns(params: StoreParams<"retryRuns">): ReturnType<Store["retryRuns"]> {
    return this.store.retryRuns(params);
  }

  holdRuns(params: StoreParams<"holdRuns">): ReturnType<Store["holdRuns"]> {
    return this.store.holdRuns(params);
  }

  releaseBatches(params: StoreParams<"releaseBatches">): ReturnType<Store["releaseBatches"]> {
    return this.store.releaseBatches(params);
  }

  removeEnded(params: StoreParams<"removeEnded">): ReturnType<Store["removeEnded"]> {
    return this.store.removeEnded(params);
  }
}
