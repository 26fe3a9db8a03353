import { blockOf, lineOf, type Progress } from "./progress.ts";
import { Screen } from "./screen.ts";

export interface Display {
  /** A line of its own, above what is redrawn. */
  print(line: string): void;
  /** All is done: makes room for the results. */
  stop(): Promise<void>;
  /** At once; what was shown last stays. */
  abandon(): void;
}

/** Without a terminal: a line at least this often, though nothing happened. */
const silenceMs = 10_000;

/** Shows how things stand until it is stopped: on a terminal as a block five times a second, elsewhere as a line a second when something changed. */
export function startDisplay(progress: Progress, title: string): Display {
  const terminal = process.stdout.isTTY && process.env["TERM"] !== "dumb";
  const screen = new Screen();
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let last = { news: "", at: 0 };

  const look = async (): Promise<void> => {
    const snapshot = await progress.read({ exact: stopped });
    if (terminal && stopped) return;
    if (terminal) screen.draw(blockOf(snapshot, screen.columns, title));
    else {
      const { news, times } = lineOf(snapshot);
      if (news === last.news && performance.now() - last.at < silenceMs) return;
      last = { news, at: performance.now() };
      console.log(`${times} | ${news}`);
    }
  };
  let looking = Promise.resolve();
  const loop = (): void => {
    looking = look().catch(() => {});
    void looking.then(() => {
      if (!stopped) timer = setTimeout(loop, terminal ? 200 : 1_000);
    });
  };
  if (!terminal) console.log(title);
  loop();

  const end = (): void => {
    stopped = true;
    clearTimeout(timer);
  };
  return {
    print: (line) => (terminal ? screen.print(line) : console.log(line)),
    async stop() {
      end();
      await looking;
      if (!terminal) await look();
      screen.clear();
    },
    abandon() {
      end();
      screen.release();
    },
  };
}
