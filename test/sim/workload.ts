/**
 * What is run: chains of every kind, and what each of them must come to.
 *
 * @module
 */
import type { Gembatch } from "../../src/index.ts";
import { refusedWord } from "./service.ts";

/** One thing to start: safe to repeat, because its run has an id. */
export interface Root {
  id: string;
  begin: (options: { priority: number }) => Promise<unknown>;
}

/** What user code may know of the world outside. */
export interface Outside {
  /** Another value at every call, for steps whose recorded value must count. */
  draw: () => number;
  /** Takes a while: what a step does out there. */
  work: () => Promise<void>;
  onStep: () => void;
}

const model = "gemini-2.5-flash";
const otherModel = "gemini-2.5-pro";

/** Registers every chain and handler on an instance, and says what to start. `rounds`: how many roots of each kind. */
export function defineWorkload(gembatch: Gembatch, outside: Outside, rounds: number): Root[] {
  const request = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });

  const line = gembatch.chain("line", async ({ models }, { name, depth }: { name: string; depth: number }) => {
    let text = name;
    for (let level = 0; level < depth; level += 1) {
      text = (await models.generateContent({ model, contents: `line ${name} ${level} ${text}` })).text!;
    }
    return text;
  });

  const fork = gembatch.chain("fork", async ({ models }, name: string) => {
    const ask = async (contents: string, of = model) => (await models.generateContent({ model: of, contents })).text!;
    const branches = ["a", "b", "c"].map(async (branch) => {
      const first = await ask(`fork ${name} ${branch}`);
      return ask(`fork ${name} ${branch} again ${first}`, branch === "c" ? otherModel : model);
    });
    const [a, b, c] = await Promise.all(branches);
    const same = await Promise.all([ask(`same`), ask(`same`)]);
    return ask(`merge ${a} ${b} ${c} ${same.join()}`);
  });

  const stepper = gembatch.chain("stepper", async ({ models, step }, name: string) => {
    const ask = async (contents: string) => (await models.generateContent({ model, contents })).text!;
    const drawn = await step("draw", async () => {
      outside.onStep();
      await outside.work();
      return outside.draw();
    });
    const first = await ask(`step ${name} 1`);
    const [recorded, second] = await Promise.all([step("repeat", () => drawn), ask(`step ${name} 2 ${first}`)]);
    const third = await ask(`step ${name} 3 ${second}`);
    await step("work", outside.work);
    // A value that was recorded is the value of every later turn.
    if (recorded !== drawn) throw new Error(`a step was ${recorded} and is ${drawn}`);
    return [first, second, third];
  });

  const leaf = gembatch.chain("leaf", async ({ models }, word: string) => (await models.generateContent({ model, contents: word })).text!);

  const tree = gembatch.chain("tree", async ({ models, call, map }, name: string) => {
    const root = await call(leaf, `tree ${name}`);
    const leaves = await map(
      leaf,
      [1, 2, 3].map((n) => `tree ${name} ${n} ${root}`),
    );
    const lines = await map(
      line,
      leaves.slice(0, 2).map((text) => ({ name: text, depth: 2 })),
    );
    return (await models.generateContent({ model, contents: lines.join(" ") })).text!;
  });

  const sleeper = gembatch.chain("sleeper", async ({ models, sleep, now }, name: string) => {
    const first = await models.generateContent({ model, contents: `sleep ${name}` });
    now();
    await sleep("90s");
    const [second] = await Promise.all([models.generateContent({ model, contents: `slept ${first.text}` }), sleep("5s")]);
    await sleep("1s");
    return second.text!;
  });

  const racer = gembatch.chain("racer", async ({ models, step }, name: string) => {
    const ask = async (contents: string) => (await models.generateContent({ model, contents })).text!;
    const winner = await Promise.race([ask(`race ${name} 1`), ask(`race ${name} 2`)]);
    const recorded = await step("winner", () => winner);
    await ask(`won ${winner}`);
    if (recorded !== winner) throw new Error("another one won at the replay");
    return "raced";
  });

  const failing = gembatch.chain("failing", async ({ models }, name: string): Promise<string> => {
    const { text } = await models.generateContent({ model, contents: `fail ${name}` });
    throw new Error(`failed on purpose after ${text}`);
  });

  const catcher = gembatch.chain("catcher", async ({ models, call }, name: string) => {
    const [child, refused] = await Promise.all([
      call(failing, name).catch((error: unknown) => (error as Error).message),
      models.generateContent({ model, contents: `${name} ${refusedWord}` }).then(
        () => "answered",
        (error: unknown) => (error as { code: string }).code,
      ),
    ]);
    return { child, refused };
  });

  const retrier = gembatch.chain(
    "retrier",
    async ({ models, run }, name: string) => {
      const { text } = await models.generateContent({ model, contents: `retry ${name}` });
      if (run.attempt === 1) throw new Error("the first try fails");
      return text!;
    },
    { maxAttempts: 100 },
  );

  const embedder = gembatch.chain("embedder", async ({ models }, name: string) => {
    const { embeddings } = await models.embedContent({ model: "gemini-embedding-001", contents: [name, `${name} again`] });
    return embeddings?.map(({ values }) => values);
  });

  const last = gembatch.handler<string>("last", (response, name) => `${name}: ${response.text}`);
  const second = gembatch.handler<string>("second", async (response, name, { models }) => {
    await gembatch.submit(request(`after ${name} ${response.text}`), model, last, name, { id: `${name}-last` });
    await leaf.start(`started by ${name}`, { id: `${name}-leaf` });
    return (await models.generateContent({ model, contents: `more ${response.text}` })).text;
  });

  const roots: Root[] = [];
  for (let n = 0; n < rounds; n += 1) {
    const add = <Input>(
      chain: { name: string; start: (input: Input, options: { id: string; priority: number }) => Promise<unknown> },
      input: Input,
    ) => {
      const id = `${chain.name}-${n}`;
      roots.push({ id, begin: async ({ priority }) => chain.start(input, { id, priority }) });
    };
    add(line, { name: `l${n}`, depth: 3 + (n % 3) });
    add(fork, `f${n}`);
    add(stepper, `s${n}`);
    add(tree, `t${n}`);
    add(sleeper, `z${n}`);
    add(racer, `r${n}`);
    add(catcher, `c${n}`);
    add(retrier, `y${n}`);
    add(embedder, `e${n}`);
    const id = `callback-${n}`;
    roots.push({ id, begin: async ({ priority }) => gembatch.submit(request(`begin ${id}`), model, second, id, { id, priority }) });
  }
  return roots;
}
