/**
 * (f) Mean chain latency against the lower bound, in virtual time. Prints one line of JSON: for every scenario the bound and what the policies reach. The mean of a policy is
 * n·E[T] plus its measured waits: the drawn turnarounds of a chain's jobs average n·E[T] under any policy, so leaving their chance out
 * changes no mean and takes most of the noise away. `node bench/latency.ts [repetitions] [quick] [part] [parts]`: virtual time does not mind a busy machine, so parts may run side by side.
 *
 * @module
 */
import { mean, numbers } from "./measure.ts";
import { lowerBound } from "./latency-bound.ts";
import { runEngine, runPython, type Measured } from "./latency-policies.ts";
import { randomOf, scenarios } from "./latency-scenarios.ts";

/** One scenario's figures in minutes, ready to print. */
export interface LatencyRow {
  index: number;
  arrivals: string;
  turnaround: string;
  steps: number;
  maxJobs: number;
  bound: number;
  engine: number;
  python: number;
  ratio: number;
  pythonRatio: number;
  jobs: number;
  atOnce: number;
}

if (import.meta.main) {
  const [repetitions, quick, part, parts] = numbers(2, 0, 0, 1);
  const rows: LatencyRow[] = [];
  for (const [index, scenario] of scenarios(quick === 1).entries()) {
    if (index % parts !== part) continue;
    const bounds: number[] = [];
    const engine: Measured[] = [];
    const python: Measured[] = [];
    for (let seed = 1; seed <= repetitions; seed += 1) {
      const arrivals = scenario.arrivals.draw(randomOf(seed));
      bounds.push(lowerBound(scenario, arrivals));
      engine.push(await runEngine(scenario, arrivals, seed));
      python.push(runPython(scenario, arrivals, seed));
    }
    const { arrivals, turnaround, steps, maxJobs } = scenario;
    const reached = (measured: readonly Measured[]) => (steps * turnaround.mean + mean(measured.map(({ waits }) => waits))) / 60_000;
    const bound = mean(bounds) / 60_000;
    const row: LatencyRow = {
      index,
      arrivals: arrivals.name,
      turnaround: turnaround.name,
      steps,
      maxJobs,
      bound,
      engine: reached(engine),
      python: reached(python),
      ratio: reached(engine) / bound,
      pythonRatio: reached(python) / bound,
      jobs: mean(engine.map(({ jobs }) => jobs)),
      atOnce: Math.max(...engine.map(({ atOnce }) => atOnce)),
    };
    if (row.atOnce > maxJobs) throw new Error(`${row.atOnce} jobs at once, ${maxJobs} are allowed: ${JSON.stringify(row)}`);
    rows.push(row);
    console.error(
      `${row.arrivals}, ${row.turnaround}, ${steps} steps, ${maxJobs} jobs: bound ${bound.toFixed(1)}, ours ${row.engine.toFixed(1)} (${row.ratio.toFixed(3)}), Python ${row.python.toFixed(1)} (${row.pythonRatio.toFixed(2)}), at once ${row.atOnce}`,
    );
  }
  console.log(JSON.stringify(rows));
}
