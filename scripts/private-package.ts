/**
 * Private packages inside the repository: tools that one script needs and `npm install` does not bring. Each has a lock file of its own, and is installed at its first use.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";

/** Installs what the folder's lock file says, unless it is there. No package's script runs. Says so on stderr, for it takes minutes. */
export function installPrivate(folder: string): void {
  const stamp = join(folder, "node_modules", ".gembatch-installed");
  const wanted = createHash("sha256")
    .update(readFileSync(join(folder, "package-lock.json")))
    .update(`${process.platform}-${process.arch}`)
    .digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  process.stderr.write(`Installing what ${basename(folder)} needs (npm ci; once) …\n`);
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  // With this Node: an older one leaves optional packages out.
  const PATH = [dirname(process.execPath), process.env["PATH"] ?? ""].join(delimiter);
  execFileSync(npm, ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: folder,
    stdio: "inherit",
    env: { ...process.env, PATH },
    shell: process.platform === "win32",
  });
  writeFileSync(stamp, wanted);
}
