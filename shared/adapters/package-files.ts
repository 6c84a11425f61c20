/** The files of a PEFT adapter package, before and after unpacking. */
export const CONFIG_FILE = 'adapter_config.json';
export const WEIGHTS_FILE = 'adapter_model.safetensors';

/** A file as it was uploaded: part of a package, or an archive of one. */
export interface PackageFile {
  name: string;
  bytes: Uint8Array;
}

export interface ArchiveEntry {
  name: string;
  /** Unpacks the content; throws a refusal when it is damaged or too large. */
  read(): Uint8Array;
}
