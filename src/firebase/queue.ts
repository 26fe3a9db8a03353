import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { messageOf } from "../pipeline/stage.ts";
import { dispatchAt, taskId, type WorkTask } from "./task.ts";

/** How long a submit waits for Cloud Tasks. */
const patienceMs = 5_000;
/** Names of tasks that are remembered. */
const maxRemembered = 1_000;

export interface WorkQueueParts {
  /** Where the queue is: read when a task is asked for, because parameters have values only then. */
  place: () => { name: string; region: string };
  bucketMs: number;
  clock: Clock;
  log: Pick<Logger, "debug" | "warn" | "error">;
}

/** The queue of `gembatchWork`. Tasks are wishes: a task that cannot be had costs time until the next sweep, and nothing else. */
export class WorkQueue {
  readonly #parts: WorkQueueParts;
  /** What this process has asked for, by the task's name: once for each bucket, whether it was given or not. */
  readonly #asked = new Map<string, Promise<boolean>>();
  readonly #said = new Set<string>();

  constructor(parts: WorkQueueParts) {
    this.#parts = parts;
  }

  /** A worker is wanted at this instant. Resolves when there will be one, or when Cloud Tasks does not give one; never rejects. */
  async wake(at: number, task: Omit<WorkTask, "notBefore"> & { queue?: string } = {}): Promise<boolean> {
    const { queue, ...rest } = task;
    return this.#ask(queue, { ...rest, notBefore: dispatchAt(at, this.#parts.bucketMs) });
  }

  /** The task came before its time, and is wanted again. */
  async postpone(task: WorkTask, queue: string | undefined): Promise<boolean> {
    return this.#ask(queue, { ...task, round: (task.round ?? 0) + 1 });
  }

  async #ask(ownName: string | undefined, task: WorkTask): Promise<boolean> {
    const { name, region } = this.#parts.place();
    const queue = ownName ?? name;
    const id = taskId(`${region}/${queue}`, task);
    const before = this.#asked.get(id);
    if (before) return before;
    const asking = this.#enqueue({ queue, region, id, task }).then(
      () => true,
      (error: unknown) => this.#failed(error, queue, region),
    );
    this.#asked.set(id, asking);
    if (this.#asked.size > maxRemembered) this.#asked.delete(this.#asked.keys().next().value!);
    return asking;
  }

  async #enqueue({ queue, region, id, task }: { queue: string; region: string; id: string; task: WorkTask }): Promise<void> {
    const { clock } = this.#parts;
    const functions = await loadFunctions();
    const tasks = functions.taskQueue<WorkTask>(`locations/${region}/functions/${queue}`, ...scope(process.env));
    const answered = new AbortController();
    const tooLate = clock.sleep(patienceMs, { signal: answered.signal, background: true }).then(() => {
      if (!answered.signal.aborted) throw new Error(`Cloud Tasks did not answer within ${patienceMs / 1_000} s.`);
    });
    const scheduleTime = new Date(task.notBefore ?? clock.now());
    try {
      await Promise.race([tasks.enqueue(task, { id, scheduleTime, dispatchDeadlineSeconds: 1_800 }), tooLate]);
    } catch (error) {
      // Somebody else asked for it, as is meant.
      if (codeOf(error) !== "task-already-exists") throw error;
    } finally {
      answered.abort();
    }
  }

  /** Says what is wrong, once for each kind of trouble. */
  #failed(error: unknown, queue: string, region: string): false {
    const { log } = this.#parts;
    const code = codeOf(error);
    if (this.#said.has(code)) return false;
    this.#said.add(code);
    const fields = { queue, region, code };
    const unharmed = "Nothing is lost: gembatchSweep does the work, only later.";
    if (code === "permission-denied" || code === "unauthenticated")
      log.error(
        `This function may not add tasks to the queue "${queue}" in ${region}. ${unharmed} Grant its service account "Cloud Tasks Enqueuer" (roles/cloudtasks.enqueuer) on the project, ` +
          `"Service Account User" (roles/iam.serviceAccountUser) on itself, and "Cloud Run Invoker" (roles/run.invoker) on the function.`,
        fields,
      );
    else if (code === "not-found")
      log.error(
        `There is no task queue "${queue}" in ${region}. ${unharmed} Is gembatchWork deployed there, and exported by that name? If it has another one, set GEMBATCH_TASK_QUEUE or the option queue.`,
        fields,
      );
    else log.warn(`A task could not be added to the queue "${queue}" in ${region}: ${messageOf(error)} ${unharmed}`, fields);
    return false;
  }
}

/** `permission-denied` of `functions/permission-denied`. */
function codeOf(error: unknown): string {
  const code = typeof error === "object" && error !== null ? (error as { code?: unknown }).code : undefined;
  return typeof code === "string" ? code.replace(/^functions\//, "") : "unknown";
}

/** In kits and extensions the SDK would put their name before the queue's once more; elsewhere nothing is said, which older versions of the SDK understand too. */
function scope({ FIREBASE_KIT_INSTANCE_ID: kit, EXT_INSTANCE_ID: extension }: NodeJS.ProcessEnv): [] | [{ scope: "global" }] {
  return kit || extension ? [{ scope: "global" }] : [];
}

/** The Admin SDK, when the first task is wanted: the default app of the program, or one of our own. */
async function loadFunctions() {
  const [{ getApps, initializeApp }, { getFunctions }] = await Promise.all([
    import("firebase-admin/app"),
    import("firebase-admin/functions"),
  ]);
  const apps = getApps();
  const app =
    apps.find(({ name }) => name === "[DEFAULT]") ?? apps.find(({ name }) => name === "gembatch") ?? initializeApp(undefined, "gembatch");
  return getFunctions(app);
}
