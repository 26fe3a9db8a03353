/**
 * Makes `npm start` and `npm test` work in a fresh clone: installs the dependencies when they are missing or out
 * of date, and makes sure that `node_modules/.bin/node` is the pinned Node. Plain JavaScript without
 * dependencies, because it runs before they exist and on the machine's own Node (18 or later).
 *
 * `node scripts/bootstrap.mjs`               install what is missing
 * `node scripts/bootstrap.mjs --build`       …and then build `dist`; a type error fails
 * `node scripts/bootstrap.mjs --try-build`   …and then build `dist`; a type error is shown and does not fail
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, linkSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const modules = join(root, "node_modules");
const stampFile = join(modules, ".gembatch-installed");
const windows = process.platform === "win32";
const nodePackage = join(modules, "node");
const pinnedNode = join(nodePackage, "bin", windows ? "node.exe" : "node");
const nodeCommand = join(modules, ".bin", windows ? "node.cmd" : "node");
const lockFile = join(root, "out", "bootstrap.lock");
const lockPatienceMs = 10 * 60_000;

const say = (text) => process.stderr.write(`gembatch: ${text}\n`);
const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));

function fail(text) {
  say(text);
  process.exit(1);
}

/** What decides whether an installation is still the right one: what is asked for, and for which platform. */
function wantedStamp() {
  const { dependencies, devDependencies, optionalDependencies, peerDependencies, overrides, workspaces } = readJson(
    join(root, "package.json"),
  );
  const asked = { dependencies, devDependencies, optionalDependencies, peerDependencies, overrides, workspaces };
  const libc = existsSync("/etc/alpine-release") ? "musl" : "";
  return createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .update(JSON.stringify(asked))
    .update([process.platform, process.arch, libc].join())
    .digest("hex");
}

function stampIsCurrent() {
  try {
    return readFileSync(stampFile, "utf8").trim() === wantedStamp();
  } catch {
    return false;
  }
}

/** Whether somebody's own `npm install` already put there exactly what the lock file says. */
function modulesMatchLock() {
  try {
    const wanted = readJson(join(root, "package-lock.json")).packages;
    const found = readJson(join(modules, ".package-lock.json")).packages;
    return Object.entries(wanted).every(([path, entry]) => {
      if (path === "" || entry.link) return true;
      const installed = found[path];
      if (installed === undefined) return entry.optional === true || entry.devOptional === true || entry.peer === true;
      return installed.version === entry.version && installed.integrity === entry.integrity && existsSync(join(root, path));
    });
  } catch {
    return false;
  }
}

const wantedNodeMajor = () => Number(/\d+/.exec(readFileSync(join(root, ".node-version"), "utf8"))?.[0]);

/** The version of the pinned Node, or undefined when it is not there, does not run here, or is not what scripts find. */
function pinnedNodeVersion() {
  if (!existsSync(nodeCommand)) return undefined;
  const { status, stdout } = spawnSync(pinnedNode, ["--version"], { encoding: "utf8" });
  const version = status === 0 ? stdout.trim() : "";
  return /^v\d+\./.test(version) ? version : undefined;
}

const pinnedNodeIsRight = () => Number(/\d+/.exec(pinnedNodeVersion() ?? "")?.[0]) === wantedNodeMajor();

/** A Node outside `node_modules`, since `npm ci` begins by removing that folder with the pinned Node in it. */
function outsideNode() {
  const outside = (path) => !resolve(path).startsWith(modules + sep);
  if (outside(process.execPath)) return process.execPath;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder, windows ? "node.exe" : "node");
    if (folder === "" || folder.includes(`node_modules${sep}.bin`) || !outside(path)) continue;
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here: look on.
    }
  }
  return process.execPath;
}

/** The environment without what the npm that runs us told its script about itself. */
function cleanEnvironment(node) {
  const env = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (/^npm_(lifecycle_|package_|command$|config_local_prefix$|config_ignore_scripts$|node_execpath$)/i.test(name)) continue;
    env[name] = value;
  }
  env.PATH = [dirname(node), ...(env.PATH ?? "").split(delimiter).filter((folder) => !folder.startsWith(modules))].join(delimiter);
  return env;
}

/** Runs a command quietly; its output is shown only when it fails. */
function run(command, args, options) {
  return new Promise((done) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], ...options });
    let output = "";
    const collect = (chunk) => (output += chunk);
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", (error) => done({ ok: false, output: output + error.message }));
    child.on("close", (code) => done({ ok: code === 0, output }));
  });
}

function npm(args) {
  const node = outsideNode();
  const env = cleanEnvironment(node);
  const cli = process.env.npm_execpath;
  if (cli !== undefined && /npm-cli\.[cm]?js$/.test(cli) && existsSync(cli) && !resolve(cli).startsWith(modules))
    return run(node, [cli, ...args], { env });
  return run(windows ? "npm.cmd" : "npm", args, { env, shell: windows });
}

const offline = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT|network)\b/i;

function explain(what, output) {
  const lines = output.trim().split("\n").slice(-12).join("\n");
  const hint = offline.test(output)
    ? "The npm registry could not be reached. The first run needs the network (or a filled npm cache); later runs do not. Check the connection and the proxy, then run the same command again."
    : "Run `npm ci` by hand to see more.";
  fail(`${what} failed.\n${lines}\n${hint}`);
}

async function installModules() {
  say(`${existsSync(modules) ? "dependencies changed, reinstalling" : "installing dependencies"} (npm ci; once, under a minute)…`);
  const args = ["ci", "--no-audit", "--no-fund", "--loglevel=error", "--engine-strict=false", "--include=dev", "--fetch-retries=3"];
  const result = await npm([...args, "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=8000"]);
  if (!result.ok) explain("npm ci", result.output);
}

/** Runs the install script of the `node` package, which `--ignore-scripts` and similar settings leave out. */
async function repairNode() {
  const script = join(nodePackage, "installArchSpecificPackage.js");
  if (!existsSync(script)) fail(`${script} is missing. Remove node_modules and run the same command again.`);
  say(`fetching Node ${readJson(join(nodePackage, "package.json")).version}…`);
  const node = outsideNode();
  const result = await run(node, [script], { cwd: nodePackage, env: cleanEnvironment(node) });
  // npm links a command only when its file is there at that moment.
  if (result.ok && !existsSync(nodeCommand)) {
    mkdirSync(dirname(nodeCommand), { recursive: true });
    rmSync(nodeCommand, { force: true });
    if (windows) writeFileSync(nodeCommand, '@"%~dp0\\..\\node\\bin\\node.exe" %*\r\n');
    else symlinkSync(join("..", "node", "bin", "node"), nodeCommand);
  }
  if (!result.ok || !pinnedNodeIsRight()) {
    explain(`Installing Node ${wantedNodeMajor()} into node_modules (found: ${pinnedNodeVersion() ?? "none"})`, result.output);
  }
}

const alive = (pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
};

/** Takes the lock by linking a complete file into place, so that nobody ever reads half a lock. */
function tryLock() {
  mkdirSync(dirname(lockFile), { recursive: true });
  const mine = `${lockFile}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    linkSync(mine, lockFile);
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    return false;
  } finally {
    rmSync(mine, { force: true });
  }
}

async function withLock(work) {
  const giveUpAt = Date.now() + lockPatienceMs;
  for (let told = false; !tryLock();) {
    let owner;
    try {
      owner = Number(readFileSync(lockFile, "utf8"));
    } catch {
      continue; // Released in between.
    }
    if (!alive(owner)) {
      rmSync(lockFile, { force: true });
      continue;
    }
    if (!told) say(`another installation is under way (process ${owner}); waiting for it…`);
    told = true;
    if (Date.now() > giveUpAt) fail(`process ${owner} still holds ${lockFile}. Remove that file if no installation is running.`);
    await new Promise((done) => setTimeout(done, 300));
  }
  const release = () => rmSync(lockFile, { force: true });
  process.once("exit", release);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));
  await work();
  process.off("exit", release);
  release();
}

async function install() {
  if (stampIsCurrent() && pinnedNodeIsRight()) return;
  await withLock(async () => {
    if (stampIsCurrent() && pinnedNodeIsRight()) return;
    const startedAt = Date.now();
    const installing = !stampIsCurrent() && !modulesMatchLock();
    if (installing) await installModules();
    if (!pinnedNodeIsRight()) await repairNode();
    writeFileSync(stampFile, `${wantedStamp()}\n`);
    if (installing) say(`installed in ${Math.round((Date.now() - startedAt) / 1000)} s, running on Node ${pinnedNodeVersion()}`);
  });
}

if (Number(process.versions.node.split(".")[0]) < 18) fail(`Node 18 or later is needed to begin with; this is ${process.version}.`);
await install();

const build = process.argv.includes("--build");
if (build || process.argv.includes("--try-build")) {
  const { status } = spawnSync(pinnedNode, [join(root, "scripts", "build.ts")], { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (build && status !== 0) fail("the build failed (see above)");
}
