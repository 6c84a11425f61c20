/** What the loader's thread is told and answers. Images are handed over, so that the giver keeps nothing alive. */
import type { ErrorValue } from '../../shared/errors.ts';
import type { PrecisionName } from '../models/precision.ts';

export interface LoaderSettings {
  basePath: string;
  precision: PrecisionName;
  edgeUrl: string;
  s3Secret: string;
  /** Where images are kept, in a folder for each form. */
  cacheFolder: string;
  /** Bytes on disk. */
  diskLimit: number;
  /** Bytes of one image. */
  limit: number;
}

/** `sealed`: object storage had only the sealed form. */
export type ImageSource = 'disk' | 'object_storage' | 'sealed';

/** The disk tier; evictions and damaged files since the start. */
export interface DiskState {
  images: number;
  bytes: number;
  evictions: number;
  damaged: number;
}

export type ToLoader =
  | { type: 'load'; call: number; digest: string }
  /** Makes the image of an adapter that was just sealed, for disk and object storage. */
  | { type: 'store'; call: number; digest: string; sealed: Uint8Array };

export type FromLoader =
  | { type: 'loaded'; call: number; image: ArrayBuffer; source: ImageSource; disk: DiskState }
  | { type: 'stored'; call: number; disk: DiskState }
  | { type: 'failed'; call: number; failure: ErrorValue }
  /** What was loaded is on disk by now. */
  | { type: 'disk'; disk: DiskState }
  | { type: 'warning'; message: string };
