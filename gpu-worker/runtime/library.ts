/**
 * ONNX Runtime's C API through koffi, on the shared library that onnxruntime-node ships. The stock binding
 * copies every input of every run; through the C API tensors are bound where they lie.
 *
 * The API is a table of function pointers whose positions never change (onnxruntime_c_api.h, "ABI stable").
 */
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import koffi from 'koffi';
import { prebuilt, targets } from '../kernels/sources.ts';

/** An opaque native pointer. */
export type Pointer = unknown;

const API_VERSION = 23;
const MEGABYTE = 1024 * 1024;

/** Position in the table and C prototype of each function that is used. All return an OrtStatus* unless void. */
const FUNCTIONS = {
  GetErrorMessage: [2, 'const char* GetErrorMessage(void* status)'],
  CreateEnv: [3, 'void* CreateEnv(int level, const char* id, _Out_ void** out)'],
  CreateSession: [7, 'void* CreateSession(void* env, const char* path, void* options, _Out_ void** out)'],
  Run: [
    9,
    'void* Run(void* session, void* options, void* inputNames, void* inputs, size_t inputCount, void* outputNames, size_t outputCount, void* outputs)',
  ],
  CreateSessionOptions: [10, 'void* CreateSessionOptions(_Out_ void** out)'],
  EnableProfiling: [14, 'void* EnableProfiling(void* options, const char* prefix)'],
  DisableCpuMemArena: [19, 'void* DisableCpuMemArena(void* options)'],
  SetSessionGraphOptimizationLevel: [23, 'void* SetSessionGraphOptimizationLevel(void* options, int level)'],
  SetIntraOpNumThreads: [24, 'void* SetIntraOpNumThreads(void* options, int threads)'],
  CreateTensorWithDataAsOrtValue: [
    49,
    'void* CreateTensorWithDataAsOrtValue(void* info, void* data, size_t bytes, void* dims, size_t rank, int type, _Out_ void** out)',
  ],
  CreateCpuMemoryInfo: [69, 'void* CreateCpuMemoryInfo(int allocator, int memory, _Out_ void** out)'],
  ReleaseStatus: [93, 'void ReleaseStatus(void* status)'],
  ReleaseSession: [95, 'void ReleaseSession(void* session)'],
  ReleaseValue: [96, 'void ReleaseValue(void* value)'],
  ReleaseSessionOptions: [100, 'void ReleaseSessionOptions(void* options)'],
  AddSessionConfigEntry: [130, 'void* AddSessionConfigEntry(void* options, const char* key, const char* value)'],
} as const;

type FunctionName = keyof typeof FUNCTIONS;
type Native = (...args: unknown[]) => unknown;

function libraryPath(): string {
  const bin = path.join(path.dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')), 'bin');
  const folder = readdirSync(bin)
    .map((napi) => path.join(bin, napi, process.platform, process.arch))
    .find((candidate) => existsSync(candidate));
  const file = folder && readdirSync(folder).find((name) => /^libonnxruntime\.(so\.1|1\.dylib)$/.test(name));
  if (!folder || !file)
    throw new Error(
      `ONNX Runtime: no shared library for ${process.platform}-${process.arch} under ${bin}; Linux and macOS on x64 and arm64 are supported`,
    );
  return path.join(folder, file);
}

// A run nests deeply through the runtime's thread pool; koffi's default of 1 MB stacks overflows.
koffi.config({ sync_stack_size: 16 * MEGABYTE, sync_heap_size: 16 * MEGABYTE });

/** Kept for the life of the process: koffi unloads a library whose handle is collected. */
const library = koffi.load(libraryPath());

function table(): Record<FunctionName, Native> {
  const base = library.func('void* OrtGetApiBase()')();
  const at = (pointer: Pointer, index: number): bigint => BigInt(koffi.decode(pointer, index * 8, 'uint64'));
  const callAt = (address: bigint, prototype: string): Native => {
    const type = koffi.proto(prototype);
    return (...args) => koffi.call(address, type, ...args);
  };
  const api = callAt(at(base, 0), 'void* GetApi(uint32 version)')(API_VERSION);
  if (!api) throw new Error(`ONNX Runtime: API version ${API_VERSION} expected, the library at ${libraryPath()} is older`);
  const entries = Object.entries(FUNCTIONS).map(([name, [index, prototype]]) => [name, callAt(at(api, index), prototype)] as const);
  return Object.fromEntries(entries) as Record<FunctionName, Native>;
}

const api = table();

/** A failure that ONNX Runtime reported: its own message, the operation and what it was done to. */
export class RuntimeFailure extends Error {
  readonly operation: string;
  readonly subject: string;
  readonly reason: string;
  constructor(operation: string, subject: string, reason: string) {
    super(`ONNX Runtime, ${operation} of ${subject}: ${reason}`);
    this.name = 'RuntimeFailure';
    this.operation = operation;
    this.subject = subject;
    this.reason = reason;
  }
}

type Status = Exclude<FunctionName, 'GetErrorMessage' | `Release${string}`>;
type Release = Extract<FunctionName, `Release${string}`>;

/** Calls a function that answers with a status; throws RuntimeFailure naming `subject` when it is not OK. */
export function call(name: Status, subject: string, ...args: unknown[]): void {
  check(name, subject, api[name](...args));
}

function check(operation: string, subject: string, status: unknown): void {
  if (!status) return;
  const message = String(api.GetErrorMessage(status));
  api.ReleaseStatus(status);
  throw new RuntimeFailure(operation, subject, message);
}

/** As `call`, for functions whose last parameter receives the object made. */
export function create(name: Status, subject: string, ...args: unknown[]): Pointer {
  const out: [Pointer] = [null];
  call(name, subject, ...args, out);
  return out[0];
}

export function release(name: Release, object: Pointer): void {
  api[name](object);
}

const kernels = loadKernels();

/** Our own operators (domain `switchyard`), compiled ahead; kept for the life of the process, as sessions run their code. */
function loadKernels(): { library: unknown; register: Native; apiBase: Pointer } {
  const target = `${process.platform}-${process.arch}`;
  const file = prebuilt(target);
  if (!existsSync(file)) throw new Error(`kernels for ${target} expected at ${file}; there are ${Object.keys(targets).join(', ')}`);
  const native = koffi.load(file);
  return {
    library: native,
    register: native.func('void* switchyard_kernels_register(void* options, void* api)'),
    apiBase: library.func('void* OrtGetApiBase()')(),
  };
}

/** Lets sessions made with `options` use our operators. */
export function registerKernels(options: Pointer, subject: string): void {
  check('registration of kernels', subject, kernels.register(options, kernels.apiBase));
}

/** The numeric address of a native object or of a buffer's first byte. */
export const address = (of: Pointer): bigint => BigInt(koffi.address(of as object));

const WARNING = 2;
let environment: Pointer = null;
let memoryInfo: Pointer = null;

/** The process-wide environment, made on first use and never released: sessions hold on to it. */
export function env(): Pointer {
  environment ??= create('CreateEnv', 'the environment', WARNING, 'switchyard');
  return environment;
}

/** Describes plain CPU memory, for tensors over buffers of ours. */
export function cpuMemory(): Pointer {
  memoryInfo ??= create('CreateCpuMemoryInfo', 'CPU memory', 1, 0);
  return memoryInfo;
}
