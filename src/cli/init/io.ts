/** What a command reads and writes, and how it learns the time: replaced in tests. */
import { createInterface } from "node:readline/promises";
import { systemClock } from "../../client/system-clock.ts";
import type { Clock } from "../../core/clock.ts";
import { GembatchError } from "../../core/errors.ts";
import { endpointVariable, GoogleClient } from "../google/client.ts";
import { defaultCredentials, noCredentials, type FoundClient } from "../google/credentials.ts";
import { declaredIndexes } from "./declared.ts";
import type { DeclaredIndexes } from "./indexes-file.ts";

export interface CommandIo {
  /** Results. */
  out: (text: string) => void;
  /** All else. */
  err: (text: string) => void;
  env: NodeJS.ProcessEnv;
  folder: string;
  clock: Clock;
  /** Asks a person; `undefined` without a terminal. */
  ask: ((question: string) => Promise<boolean>) | undefined;
  /** Where credentials come from. Default: application default credentials. */
  findClient?: () => Promise<FoundClient>;
  /** The indexes that the store declares for an edition, as the Firestore API names it; default Standard. */
  indexes: (prefix: string, edition?: string) => DeclaredIndexes;
}

/** The process, its terminal and its clock. */
export function processIo(out: (text: string) => void): CommandIo {
  const { stdin, stderr } = process;
  return {
    out,
    err: (text) => void stderr.write(text),
    env: process.env,
    folder: process.cwd(),
    clock: systemClock,
    ask: stdin.isTTY ? askPerson : undefined,
    indexes: declaredIndexes,
  };
}

async function askPerson(question: string): Promise<boolean> {
  // On stderr, so that what is piped onwards holds results only.
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C and the end of input are a no.
  const ended = new Promise<string>((resolve) => {
    terminal.once("close", () => resolve(""));
  });
  terminal.once("SIGINT", () => terminal.close());
  try {
    return /^y(es)?$/i.test((await Promise.race([terminal.question(question), ended])).trim());
  } finally {
    terminal.close();
  }
}

export function connectGoogle({ env, clock, findClient }: CommandIo, project: string): GoogleClient {
  const endpoint = env[endpointVariable]?.replace(/\/+$/, "") || undefined;
  if (endpoint !== undefined && !/^https?:\/\/(?:localhost|127\.0\.0\.1)(?::\d+)?$/.test(endpoint))
    throw new GembatchError("invalid_option", `${endpointVariable} must be an address on this machine, such as http://127.0.0.1:8080.`);
  // Credentials go to Google alone.
  const credentials = endpoint === undefined || findClient !== undefined ? defaultCredentials(project, findClient) : noCredentials;
  return new GoogleClient({ credentials, clock, endpoint });
}
