import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Mutation } from "./mutations.ts";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/**
 * Runs the simulation under a mutation, in a process of its own. Resolves with the promise that was broken, or with nothing if all seeds held. The seed that
 * breaks must hold with the guard in place, or it proves nothing.
 */
export async function catchMutation(mutation: Mutation, seed?: number): Promise<string | undefined> {
  const seeds = seed === undefined ? ["--seeds", String(mutation.seeds), "--seed", "1"] : ["--seeds", "1", "--seed", String(seed)];
  const broken = await runSeeds(["--import", path("mutate.ts"), path("main.ts"), ...seeds], mutation.name);
  if (broken === undefined) return undefined;
  const again = ["--seeds", "1", "--seed", /^Seed (\d+)/.exec(broken)?.[1] ?? "", "--emphasis", mutation.name];
  const without = await runSeeds([path("main.ts"), ...again], undefined);
  if (without !== undefined)
    throw new Error(`Mutation ${mutation.name} proves nothing: its guard in place, this seed breaks too. ${without}`);
  return broken;
}

/** The first line about a seed that broke. */
function runSeeds(args: readonly string[], mutation: string | undefined): Promise<string | undefined> {
  const env = { ...process.env, GEMBATCH_MUTATION: mutation };
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [...args, "--quiet"], { env, timeout: 600_000 }, (error, stdout, stderr) => {
      if (!error) resolve(undefined);
      else if (stdout.includes("To repeat it:")) resolve(stdout.trim().split("\n")[0]);
      else reject(new Error(`The simulation broke down: ${stderr || error.message}`));
    });
  });
}
