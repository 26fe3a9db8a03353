/**
 * What a consumer would trip over in the packed package: publint for the manifest, "are the types wrong" for what
 * each module resolution finds. We ship ESM only, so a CommonJS resolution to ESM is as intended.
 *
 * @module
 */
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { pack } from "./pack.ts";

/** The `esm-only` profile: resolutions that an ESM package for Node 22 does not serve. */
const ignoredResolutions = new Set(["node10", "node16-cjs"]);

const folder = mkdtempSync(join(tmpdir(), "gembatch-lint-package-"));
try {
  const { tarball, stage } = pack(folder);
  const complaints: string[] = [];

  const { messages, pkg } = await publint({ pkgDir: stage, strict: true, level: "warning", pack: "npm" });
  for (const message of messages) complaints.push(`publint ${message.type}: ${formatMessage(message, pkg) ?? message.code}`);

  const result = await checkPackage(createPackageFromTarballData(readFileSync(tarball)));
  if (!result.types) complaints.push("attw: the package has no types");
  for (const problem of result.types ? result.problems : []) {
    if ("resolutionKind" in problem && ignoredResolutions.has(problem.resolutionKind)) continue;
    complaints.push(`attw ${problem.kind}: ${JSON.stringify(problem)}`);
  }

  for (const complaint of complaints) console.error(complaint);
  if (complaints.length > 0) process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
