/**
 * What is to be changed by a person in code that is there: sentences for the plan.
 *
 * @module
 */
import { defaults } from "./facts.ts";
import { optionsText } from "./functions-source.ts";
import type { GivenSettings, Settings } from "./settings.ts";

/** The functions' code, without comments. */
export interface ExistingCode {
  /** The file that exports the functions, as people name it. */
  name: string;
  /** Of all files. */
  text: string;
}

/** Whether `gembatchFunctions` takes the bucket from the parameter, which is a name alone. */
export const takesBareBucket = (code: string): boolean => /\bbucket\s*:\s*true\b/.test(code);

/** Options that only code can carry, and that this code does not say. */
export function codeOnlyWarning({ name, text }: ExistingCode, settings: Settings, given: GivenSettings): string | undefined {
  const { provider, bucket, hearsOutputs, database, prefix, region, serviceAccount } = settings;
  const says = (option: string, value: string): boolean =>
    new RegExp(`\\b${option}\\s*:\\s*\\[?\\s*["'\`]${value.replaceAll(/[^\w]/g, String.raw`\$&`)}["'\`]`).test(text);
  const missing = (option: string, value: string | undefined, usual?: string): readonly [string, string | undefined] => [
    option,
    value === undefined || value === usual || says(option, value) ? undefined : JSON.stringify(value),
  ];
  const isBare = takesBareBucket(text);
  const hasFolder = provider === "vertex" && hearsOutputs && bucket !== undefined && bucket.folder !== defaults.folder;
  const path = hasFolder && (isBare || given.bucket !== undefined) ? `${bucket.name}/${bucket.folder}` : undefined;
  // What a deploy takes from the parameter needs no code.
  const isFixed = given.region !== undefined && /\bsetGlobalOptions\s*\(|\bregion\s*:/.test(text);
  const store = optionsText(missing("databaseId", database, defaults.database), missing("prefix", prefix, defaults.prefix));
  const functions = optionsText(
    missing("region", isFixed ? region : undefined),
    path === undefined || says("bucket", path) ? ["bucket", undefined] : missing("bucket", `gs://${path}`),
    missing("serviceAccount", serviceAccount),
  );
  const lines = [
    ...(store === "" ? [] : [`firestore(${store})`]),
    ...(functions === "" ? [] : [`gembatchFunctions(gembatch, ${functions})`]),
  ];
  if (lines.length === 0) return undefined;
  const then =
    path !== undefined && isBare
      ? ` Until then GEMBATCH_VERTEX_BUCKET is the bucket's name alone, and jobs lie in ${defaults.folder}/: change the code, then run this again.`
      : "";
  return `${name} exports the functions already and stays as it is; write into your code what only code can say: ${lines.join(" and ")}.${then}`;
}

/** `setGlobalOptions` in an ES module comes too late for what it exports from elsewhere. */
export function orderWarning({ name, text }: ExistingCode, outcome: "already" | "added"): string | undefined {
  const comesFromElsewhere = outcome === "added" || /\bexport\s*(?:\*|\{[^}]*\bgembatchWork\b[^}]*\})\s*from\b/.test(text);
  return comesFromElsewhere && /\bsetGlobalOptions\s*\(/.test(text)
    ? `${name} calls setGlobalOptions, which does not reach gembatch's functions: a module that is imported is evaluated before the code around it. Move the call into a module of its own that is imported first, or give region and serviceAccount to gembatchFunctions.`
    : undefined;
}

/** A trigger that no deploy would take. */
export function deafWarning(code: ExistingCode | undefined, { region, bucketLocation }: Settings): string {
  const exported = code !== undefined && /\bgembatchOutput\b/.test(code.text);
  const what = exported
    ? `a deploy of gembatchOutput fails. Take it out of ${code.name}, and bucket out of the options of gembatchFunctions; outputs are then found by looking`
    : "gembatchOutput is left out, and outputs are found by looking";
  return `functions in ${region} cannot be triggered by a bucket in ${bucketLocation}: ${what}`;
}
