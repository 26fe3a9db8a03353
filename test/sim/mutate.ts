/** Loaded before the program (`node --import`): every module that the mutation patches is loaded with its guard taken out. */
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";
import { checkMutation, findMutation, mutate } from "./mutations.ts";

const root = new URL("../../", import.meta.url).href;
const mutation = findMutation(process.env["GEMBATCH_MUTATION"] ?? "");
checkMutation(mutation);

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    const file = url.startsWith(root) ? url.slice(root.length) : "";
    if (!mutation.patches.some((patch) => patch.file === file)) return loaded;
    if (loaded.source == null) throw new Error(`${fileURLToPath(url)} was loaded without its source.`);
    const source = typeof loaded.source === "string" ? loaded.source : new TextDecoder().decode(loaded.source);
    return { ...loaded, source: mutate(mutation, file, source) };
  },
});
