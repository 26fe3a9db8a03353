import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Mutation } from "./mutations.ts";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Runs the simulation under a mutation, in a process of its own. Resolves with the promise that was broken, or with nothing if all seeds held. */
export function catchMutation(mutation: Mutation, seed?: number): Promise<string | undefined> {
  const seeds = seed === undefined ? ["--seeds", String(mutation.seeds), "--seed", "1"] : ["--seeds", "1", "--seed", String(seed)];
  const args = ["--disable-warning=ExperimentalWarning", "--import", path("mutate.ts"), path("main.ts"), "--quiet", ...seeds];
  const env = { ...process.env, GEMBATCH_MUTATION: mutation.name };
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { env, timeout: 600_000 }, (error, stdout, stderr) => {
      if (!error) resolve(undefined);
      else if (stdout.includes("To repeat it:")) resolve(stdout.trim().split("\n")[0]);
      else reject(new Error(`The simulation under ${mutation.name} broke down: ${stderr || error.message}`));
    });
  });
}
