import type { Store } from "../core/store.ts";

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

  heartbeat(params: Parameters<Store["heartbeat"]>[0]): ReturnType<Store["heartbeat"]> {
    return this.store.heartbeat(params);
  }

  leave(params: Parameters<Store["leave"]>[0]): ReturnType<Store["leave"]> {
    return this.store.leave(params);
  }

  startRuns(params: Parameters<Store["startRuns"]>[0]): ReturnType<Store["startRuns"]> {
    return this.store.startRuns(params);
  }

  holdFlush(params: Parameters<Store["holdFlush"]>[0]): ReturnType<Store["holdFlush"]> {
    return this.store.holdFlush(params);
  }

  claimRuns(params: Parameters<Store["claimRuns"]>[0]): ReturnType<Store["claimRuns"]> {
    return this.store.claimRuns(params);
  }

  loadHistory(params: Parameters<Store["loadHistory"]>[0]): ReturnType<Store["loadHistory"]> {
    return this.store.loadHistory(params);
  }

  commitTurns(params: Parameters<Store["commitTurns"]>[0]): ReturnType<Store["commitTurns"]> {
    return this.store.commitTurns(params);
  }

  fireTimers(params: Parameters<Store["fireTimers"]>[0]): ReturnType<Store["fireTimers"]> {
    return this.store.fireTimers(params);
  }

  wakeRuns(params: Parameters<Store["wakeRuns"]>[0]): ReturnType<Store["wakeRuns"]> {
    return this.store.wakeRuns(params);
  }

  activity(params: Parameters<Store["activity"]>[0]): ReturnType<Store["activity"]> {
    return this.store.activity(params);
  }

  activeBatches(): ReturnType<Store["activeBatches"]> {
    return this.store.activeBatches();
  }

  formBatch(params: Parameters<Store["formBatch"]>[0]): ReturnType<Store["formBatch"]> {
    return this.store.formBatch(params);
  }

  moveQueued(params: Parameters<Store["moveQueued"]>[0]): ReturnType<Store["moveQueued"]> {
    return this.store.moveQueued(params);
  }

  dueDeadlines(params: Parameters<Store["dueDeadlines"]>[0]): ReturnType<Store["dueDeadlines"]> {
    return this.store.dueDeadlines(params);
  }

  decideDeadlines(params: Parameters<Store["decideDeadlines"]>[0]): ReturnType<Store["decideDeadlines"]> {
    return this.store.decideDeadlines(params);
  }

  claimBatches(params: Parameters<Store["claimBatches"]>[0]): ReturnType<Store["claimBatches"]> {
    return this.store.claimBatches(params);
  }

  updateBatch(params: Parameters<Store["updateBatch"]>[0]): ReturnType<Store["updateBatch"]> {
    return this.store.updateBatch(params);
  }

  dueSweeps(params: Parameters<Store["dueSweeps"]>[0]): ReturnType<Store["dueSweeps"]> {
    return this.store.dueSweeps(params);
  }

  updateSweep(params: Parameters<Store["updateSweep"]>[0]): ReturnType<Store["updateSweep"]> {
    return this.store.updateSweep(params);
  }

  hastenBatches(params: Parameters<Store["hastenBatches"]>[0]): ReturnType<Store["hastenBatches"]> {
    return this.store.hastenBatches(params);
  }

  readMembers(params: Parameters<Store["readMembers"]>[0]): ReturnType<Store["readMembers"]> {
    return this.store.readMembers(params);
  }

  settleRows(params: Parameters<Store["settleRows"]>[0]): ReturnType<Store["settleRows"]> {
    return this.store.settleRows(params);
  }

  settleRemaining(params: Parameters<Store["settleRemaining"]>[0]): ReturnType<Store["settleRemaining"]> {
    return this.store.settleRemaining(params);
  }

  getRuns(params: Parameters<Store["getRuns"]>[0]): ReturnType<Store["getRuns"]> {
    return this.store.getRuns(params);
  }

  listRuns(params: Parameters<Store["listRuns"]>[0]): ReturnType<Store["listRuns"]> {
    return this.store.listRuns(params);
  }

  getRequest(params: Parameters<Store["getRequest"]>[0]): ReturnType<Store["getRequest"]> {
    return this.store.getRequest(params);
  }

  listRequests(params: Parameters<Store["listRequests"]>[0]): ReturnType<Store["listRequests"]> {
    return this.store.listRequests(params);
  }

  getBatch(params: Parameters<Store["getBatch"]>[0]): ReturnType<Store["getBatch"]> {
    return this.store.getBatch(params);
  }

  listBatches(params: Parameters<Store["listBatches"]>[0]): ReturnType<Store["listBatches"]> {
    return this.store.listBatches(params);
  }

  stats(): ReturnType<Store["stats"]> {
    return this.store.stats();
  }

  spend(params: Parameters<Store["spend"]>[0]): ReturnType<Store["spend"]> {
    return this.store.spend(params);
  }

  hasLiveRuns(): ReturnType<Store["hasLiveRuns"]> {
    return this.store.hasLiveRuns();
  }

  cancelRuns(params: Parameters<Store["cancelRuns"]>[0]): ReturnType<Store["cancelRuns"]> {
    return this.store.cancelRuns(params);
  }

  retryRuns(params: Parameters<Store["retryRuns"]>[0]): ReturnType<Store["retryRuns"]> {
    return this.store.retryRuns(params);
  }

  holdRuns(params: Parameters<Store["holdRuns"]>[0]): ReturnType<Store["holdRuns"]> {
    return this.store.holdRuns(params);
  }

  releaseBatches(params: Parameters<Store["releaseBatches"]>[0]): ReturnType<Store["releaseBatches"]> {
    return this.store.releaseBatches(params);
  }

  removeEnded(params: Parameters<Store["removeEnded"]>[0]): ReturnType<Store["removeEnded"]> {
    return this.store.removeEnded(params);
  }
}
