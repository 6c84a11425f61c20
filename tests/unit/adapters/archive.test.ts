/** Package containers: the same files in every wrapping, and every way a wrapping can lie. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync, zipSync } from 'fflate';
import { type Header, pack } from 'tar-stream';
import { openPackage } from '../../../shared/adapters/archive.ts';
import type { PackageFile } from '../../../shared/adapters/package-files.ts';
import { findingsOf } from '../../contract/adapters/support.ts';

const encode = (text: string) => new TextEncoder().encode(text);
const config = encode('{"peft_type":"LORA"}');
const weights = encode('weights '.repeat(2000));
const FILES = { 'adapter_config.json': config, 'adapter_model.safetensors': weights };

async function tar(entries: readonly (Pick<Header, 'name'> & Partial<Header> & { data?: Uint8Array })[]): Promise<Uint8Array> {
  const stream = pack();
  for (const { data, ...headers } of entries) stream.entry(headers, Buffer.from(data ?? []));
  stream.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return new Uint8Array(Buffer.concat(chunks));
}
const tarOf = (files: Record<string, Uint8Array>) => tar(Object.entries(files).map(([name, data]) => ({ name, data })));
const upload = (bytes: Uint8Array, name = 'upload'): PackageFile[] => [{ name, bytes }];
const codes = (files: readonly PackageFile[]) => findingsOf(() => openPackage(files))?.map((finding) => finding.code);

function assertOpens(files: readonly PackageFile[]): void {
  const opened = openPackage(files);
  assert.deepEqual(Buffer.from(opened.config), Buffer.from(config));
  assert.deepEqual(Buffer.from(opened.weights), Buffer.from(weights));
}

describe('every wrapping gives the same two files', () => {
  const notes = { 'README.md': encode('# notes'), '.gitattributes': encode('*') };
  const long = `${'d'.repeat(90)}/`;
  const under = (directory: string, files: Record<string, Uint8Array>) =>
    Object.fromEntries(Object.entries(files).map(([name, data]) => [directory + name, data]));
  const cases: Record<string, () => Uint8Array | Promise<Uint8Array>> = {
    'zip, deflated': () => zipSync({ ...FILES, ...notes }),
    'zip, stored': () => zipSync(FILES, { level: 0 }),
    'zip with a directory': () => zipSync(under('my-adapter/', { ...FILES, ...notes })),
    'zip with what macOS adds': () => zipSync({ ...under('a/', FILES), '__MACOSX/a/._adapter_config.json': encode('x') }),
    tar: () => tarOf({ ...FILES, ...notes }),
    'tar of "."': () =>
      tar([{ name: './', type: 'directory' }, ...Object.entries(FILES).map(([name, data]) => ({ name: `./${name}`, data }))]),
    'tar with pax headers': () => tar(Object.entries(FILES).map(([name, data]) => ({ name: long + name, data, pax: { mtime: '1.5' } }))),
    'tar.gz': async () => gzipSync(await tarOf(FILES)),
    'tar.gz with a file name': async () => gzipSync(await tarOf(under('x/', FILES)), { filename: 'x.tar' }),
  };
  for (const [name, make] of Object.entries(cases)) test(name, async () => assertOpens(upload(await make())));
  test('loose files', () => assertOpens(Object.entries({ ...FILES, ...notes }).map(([name, bytes]) => ({ name, bytes }))));
});

/** Overwrites bytes of the last central directory entry or of the first local header. */
function patched(zip: Uint8Array, signature: number, offset: number, bytes: readonly number[], last = false): Uint8Array {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  const found = Array.from({ length: zip.byteLength - 4 }, (_, i) => i).filter((i) => view.getUint32(i, true) === signature);
  const out = zip.slice();
  out.set(bytes, (last ? found.at(-1)! : found[0]!) + offset);
  return out;
}

/** Two entries, the second of which lies in the stored content of the first. */
function nested(): Uint8Array {
  const inner = zipSync({ 'adapter_config.json': config }, { level: 0 });
  const zip = zipSync({ 'notes.txt': inner, 'adapter_config.json': config }, { level: 0 });
  return patched(zip, 0x02014b50, 42, [30 + 'notes.txt'.length, 0, 0, 0], true);
}

describe('lying zips', () => {
  const CENTRAL = 0x02014b50;
  const LOCAL = 0x04034b50;
  const zip = zipSync(FILES);
  const cases: [string, Uint8Array, string][] = [
    ['encrypted', patched(zip, CENTRAL, 8, [1]), 'container'],
    ['unknown method', patched(zip, CENTRAL, 10, [14], true), 'container'],
    ['other method in the local header', patched(zip, LOCAL, 8, [0]), 'container'],
    ['other name in the local header', patched(zip, LOCAL, 30, [0x41]), 'container'],
    ['declares fewer bytes than it holds', patched(zip, CENTRAL, 24, [8, 0, 0, 0], true), 'container'],
    ['declares more bytes than it holds', patched(zip, CENTRAL, 24, [0xff, 0xff, 0, 0], true), 'container'],
    ['declares what would be a bomb', patched(zip, CENTRAL, 24, [0, 0, 0, 0x20], true), 'limits'],
    ['wrong checksum', patched(zip, CENTRAL, 16, [1, 2, 3, 4], true), 'container'],
    ['symbolic link', patched(zip, CENTRAL, 38, [0, 0, 0xff, 0xa1], true), 'files'],
    ['an entry inside of another', nested(), 'container'],
    ['an entry without a local header', patched(zip, CENTRAL, 42, [1, 0, 0, 0], true), 'container'],
    ['no end record', zip.slice(0, -5), 'container'],
    ['too many entries', zipSync(Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`f${i}`, new Uint8Array()]))), 'limits'],
  ];
  for (const [name, bytes, code] of cases) test(name, () => assert.deepEqual(codes(upload(bytes)), [code]));
});

describe('lying tars', () => {
  test('links', async () => {
    for (const type of ['symlink', 'link', 'character-device', 'fifo'] as const) {
      assert.deepEqual(codes(upload(await tar([{ name: 'adapter_config.json', type, linkname: '/etc/passwd' }]))), ['files']);
    }
  });
  test('parents and absolute paths, long ones too', async () => {
    for (const name of ['../adapter_config.json', '/etc/passwd', `${'d/'.repeat(60)}../../x`]) {
      assert.deepEqual(codes(upload(await tarOf({ ...FILES, [name]: config }))), ['files']);
    }
  });
  test('damage', async () => {
    const good = await tarOf(FILES);
    const checksum = good.slice();
    checksum[0] = 0x58;
    const rest = good.slice();
    rest[rest.length - 1] = 1;
    for (const bytes of [checksum, rest, good.slice(0, 1024)]) assert.deepEqual(codes(upload(bytes)), ['container']);
  });
  test('pax records that redefine an entry', async () => {
    for (const pax of [{ size: '1' }, { 'GNU.sparse.major': '1' }]) {
      assert.deepEqual(codes(upload(await tar([{ name: 'a', data: config, pax }]))), ['container']);
    }
  });
});

describe('lying gzips', () => {
  test('bomb', () => assert.deepEqual(codes(upload(gzipSync(new Uint8Array(50_000_000)))), ['limits']));
  test('no tar inside', () => assert.deepEqual(codes(upload(gzipSync(config))), ['container']));
  test('damaged, cut or with a second member', async () => {
    const good = gzipSync(await tarOf(FILES));
    const flipped = good.slice();
    flipped[flipped.length - 6]! ^= 1;
    for (const bytes of [flipped, good.slice(0, -9), good.slice(0, 12), Buffer.concat([good, gzipSync(config)])]) {
      assert.deepEqual(codes(upload(bytes)), ['container']);
    }
  });
});

describe('files that do not belong', () => {
  const loose = (more: Record<string, Uint8Array>) => Object.entries({ ...FILES, ...more }).map(([name, bytes]) => ({ name, bytes }));
  for (const name of [
    'adapter_model.bin',
    'optimizer.pt',
    'rng_state.pth',
    'x.PKL',
    'sub/model.safetensors',
    'x.gguf',
    'inner.zip',
    'ADAPTER_CONFIG.JSON',
  ]) {
    test(name, () => assert.deepEqual(codes(loose({ [name]: config })), ['files']));
  }
  test('several at once are all named', () => assert.deepEqual(codes(loose({ 'a.bin': config, 'b.pt': config })), ['files', 'files']));
  test('both files missing are both named', () => assert.deepEqual(codes(upload(config, 'README.md')), ['config', 'files']));
});
