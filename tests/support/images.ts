/** What the loader gives an engine, without a loader: the images of sealed adapters for one base and precision. */
import { buildImage } from '../../gpu-worker/models/adapter-image.ts';
import { imageForm } from '../../gpu-worker/models/image-form.ts';
import { parsePrecision, precisionOf } from '../../gpu-worker/models/precisions.ts';
import { openCheckpoint } from '../../gpu-worker/models/source/checkpoint.ts';

export async function imagesFor(
  basePath: string,
  precision: string,
): Promise<(digest: string, sealed: Uint8Array) => Promise<ArrayBuffer>> {
  const checkpoint = await openCheckpoint(basePath);
  const form = imageForm(checkpoint, precisionOf(parsePrecision(precision)));
  return (digest, sealed) => buildImage(digest, sealed, form);
}
