/** What `gembatch init` writes into a codebase is loaded over the real modules: the functions are there, and the types fit. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { declaredParams } from "firebase-functions/params";
import { afterAll, describe, expect, it } from "vitest";
import { root } from "../../scripts/build.ts";
import { defaultEnv, wantedEnv } from "../../src/cli/init/file-steps.ts";
import { addExports, readSource, type Snippet } from "../../src/cli/init/functions-source.ts";
import { resolveSettings } from "../../src/cli/init/settings.ts";
import { makeProject, removeProjects } from "./fixtures.ts";

afterAll(removeProjects);

const plain: Snippet = {
  provider: "vertex",
  database: "(default)",
  prefix: "gembatch",
  bucket: { name: "my-bucket", folder: "gembatch" },
  hearsOutputs: true,
  serviceAccount: undefined,
};
const snippets: readonly [name: string, snippet: Snippet, exports: string[]][] = [
  ["Vertex AI", plain, ["gembatchWork", "gembatchSweep", "gembatchOutput"]],
  ["the Gemini API", { ...plain, provider: "gemini", bucket: undefined, hearsOutputs: false }, ["gembatchWork", "gembatchSweep"]],
  [
    "everything given",
    {
      ...plain,
      bucket: { name: "my-bucket", folder: "jobs" },
      database: "batch-data",
      prefix: "gb",
      serviceAccount: "worker@demo-project.iam.gserviceaccount.com",
    },
    ["gembatchWork", "gembatchSweep", "gembatchOutput"],
  ],
];

describe("the file that init writes", () => {
  it.each(snippets)("defines the functions: %s", async (_name, snippet, names) => {
    const folder = makeProject({ "package.json": `{ "type": "module", "main": "index.js" }`, "index.js": "export {};\n" });
    const { files } = addExports(folder, readSource(folder), snippet);
    for (const [path, text] of Object.entries(files)) writeFileSync(join(folder, path), text);
    const own = (await import(/* @vite-ignore */ pathToFileURL(join(folder, "gembatch.js")).href)) as Record<
      string,
      { __endpoint?: object }
    >;
    expect(names.filter((name) => own[name]?.__endpoint === undefined)).toEqual([]);
    expect(files["index.js"]).toContain(`export { ${names.join(", ")} } from "./gembatch.js";`);
  });

  it("declares no parameter that init leaves unset, with the defaults that it sets", async () => {
    declaredParams.length = 0;
    const folder = makeProject({ "package.json": `{ "type": "module", "main": "index.js" }`, "index.js": "export {};\n" });
    writeFileSync(join(folder, "gembatch.js"), addExports(folder, readSource(folder), plain).files["gembatch.js"]!);
    await import(/* @vite-ignore */ pathToFileURL(join(folder, "gembatch.js")).href);
    const wanted = wantedEnv(resolveSettings({}, { project: "demo-project", env: new Map(), regions: [] }));
    const set = new Map([...wanted, ...defaultEnv()]);
    const names = ["GEMBATCH_MAX_INSTANCES", "GEMBATCH_MEMORY_MB", "GEMBATCH_REGION", "GEMBATCH_VERTEX_BUCKET"];
    expect(declaredParams.map(({ name }) => name).toSorted()).toEqual(names);
    for (const { name, options } of declaredParams as { name: string; options: { default?: unknown } }[])
      expect([name, set.get(name)]).toEqual([name, String(options.default ?? set.get(name))]);
  });

  it("fits the types, as TypeScript and as CommonJS", () => {
    const folder = makeProject({ "package.json": `{ "main": "lib/index.js" }`, "src/index.ts": "" });
    for (const [index, [, snippet]] of snippets.entries()) {
      const { files } = addExports(folder, readSource(folder), snippet);
      writeFileSync(join(folder, `src/own${index}.ts`), files["src/gembatch.ts"]!);
    }
    const common = makeProject({ "package.json": `{ "main": "index.js" }`, "index.js": "" });
    writeFileSync(join(folder, "src/own.js"), addExports(common, readSource(common), plain).files["gembatch.js"]!);
    const config = {
      extends: join(root, "tsconfig.json"),
      compilerOptions: {
        allowJs: true,
        checkJs: true,
        verbatimModuleSyntax: false,
        typeRoots: [join(root, "node_modules/@types")],
        paths: { gembatch: [join(root, "src/index.ts")], "gembatch/*": [join(root, "src/*.ts")] },
      },
      include: [join(folder, "src")],
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const { stdout } = spawnSync(process.execPath, [tsc, "-p", folder, "--pretty", "false"], { encoding: "utf8" });
    // Errors elsewhere are for the type check of the repository.
    expect(stdout.split("\n").filter((line) => /own\d?\.[jt]s/.test(line))).toEqual([]);
  }, 60_000);
});
