/**
 * Writes one object of unknown length to R2 with bounded memory: small ones in one put, others in parts
 * of one size, as R2's multipart uploads require.
 */
const PART_BYTES = 8 * 1024 * 1024;

export class PartWriter {
  readonly key: string;
  bytes = 0;
  readonly #bucket: R2Bucket;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #upload: R2MultipartUpload | null = null;
  #parts: R2UploadedPart[] = [];

  constructor(bucket: R2Bucket, key: string) {
    this.#bucket = bucket;
    this.key = key;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.bytes += chunk.byteLength;
    this.#pending.push(chunk);
    this.#pendingBytes += chunk.byteLength;
    while (this.#pendingBytes >= PART_BYTES) await this.#sendPart(PART_BYTES);
  }

  /** The object exists once this resolves. */
  async close(): Promise<void> {
    if (!this.#upload) {
      await this.#bucket.put(this.key, this.#take(this.#pendingBytes));
      return;
    }
    if (this.#pendingBytes > 0) await this.#sendPart(this.#pendingBytes);
    await this.#upload.complete(this.#parts);
  }

  async abort(): Promise<void> {
    await this.#upload?.abort();
  }

  async #sendPart(size: number): Promise<void> {
    this.#upload ??= await this.#bucket.createMultipartUpload(this.key);
    this.#parts.push(await this.#upload.uploadPart(this.#parts.length + 1, this.#take(size)));
  }

  /** The first `size` pending bytes. */
  #take(size: number): Uint8Array {
    const whole = new Uint8Array(this.#pendingBytes);
    let at = 0;
    for (const chunk of this.#pending) {
      whole.set(chunk, at);
      at += chunk.byteLength;
    }
    this.#pending = size < whole.byteLength ? [whole.subarray(size)] : [];
    this.#pendingBytes = whole.byteLength - size;
    return whole.subarray(0, size);
  }
}
