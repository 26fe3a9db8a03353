import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { defineConfig, isGembatch, type GembatchConfig } from "../client/config.ts";
import { GembatchError } from "../core/errors.ts";

const fileNames = ["gembatch.config.ts", "gembatch.config.mts", "gembatch.config.js", "gembatch.config.mjs"];

/** The config of this file, else the one in the folder, if there is one. Throws `invalid_option` for a file that is missing or exports no gembatch. */
export async function loadConfig(file: string | undefined, folder = process.cwd()): Promise<GembatchConfig | undefined> {
  const path =
    file === undefined ? fileNames.map((name) => join(folder, name)).find((candidate) => existsSync(candidate)) : resolve(folder, file);
  if (path === undefined) return undefined;
  if (!existsSync(path)) throw new GembatchError("invalid_option", `There is no config at ${path}.`);
  if (/\.m?ts$/.test(path) && !process.features.typescript) {
    throw new GembatchError(
      "invalid_option",
      `Node ${process.version} cannot load ${basename(path)}: it does not run TypeScript by itself.`,
      {
        hint: "Use Node 22.18 or later, or write gembatch.config.js.",
      },
    );
  }
  return readConfig((await import(pathToFileURL(path).href)) as Record<string, unknown>, path);
}

/** The default export, a config or an instance, else the export `gembatch`. */
function readConfig(module: Record<string, unknown>, path: string): GembatchConfig {
  const { default: given = module["gembatch"] } = module;
  if (isGembatch(given)) return { gembatch: given };
  if (typeof given === "object" && given !== null && "gembatch" in given) return defineConfig(given as unknown as GembatchConfig);
  throw new GembatchError("invalid_option", `${path} exports no gembatch.`, {
    hint: "export default defineConfig({ gembatch: new Gembatch() }); defineConfig and Gembatch are exports of gembatch.",
  });
}
