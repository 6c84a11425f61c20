/** A reader of the protobuf wire format, written from its specification alone, to check the writer against. */

export interface Field {
  field: number;
  /** A varint (unsigned 64 bit), the bytes of a length-delimited field, or the 4 bytes of a fixed32. */
  value: bigint | Uint8Array;
}

export function readFields(bytes: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined || shift > 63n) throw new Error('a varint without an end');
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new Error('a field longer than its message');
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const field = tag >>> 3;
    switch (tag & 7) {
      case 0:
        fields.push({ field, value: varint() });
        break;
      case 2:
        fields.push({ field, value: take(Number(varint())) });
        break;
      case 5:
        fields.push({ field, value: take(4) });
        break;
      default:
        throw new Error(`field ${field} has wire type ${tag & 7}`);
    }
  }
  return fields;
}

/** A message whose fields are asked for by number. */
export class Message {
  readonly #fields: readonly Field[];

  constructor(bytes: Uint8Array) {
    this.#fields = readFields(bytes);
  }

  all(field: number): (bigint | Uint8Array)[] {
    return this.#fields.filter((f) => f.field === field).map((f) => f.value);
  }

  #one(field: number): bigint | Uint8Array {
    const values = this.all(field);
    if (values.length !== 1) throw new Error(`field ${field} occurs ${values.length} times`);
    return values[0]!;
  }

  int(field: number): number {
    return Number(BigInt.asIntN(64, this.#one(field) as bigint));
  }

  bytes(field: number): Uint8Array {
    return this.#one(field) as Uint8Array;
  }

  float(field: number): number {
    const bytes = this.bytes(field);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
  }

  string(field: number): string {
    return utf8(this.bytes(field));
  }

  strings(field: number): string[] {
    return this.all(field).map((value) => utf8(value as Uint8Array));
  }

  ints(field: number): number[] {
    return this.all(field).map((value) => Number(BigInt.asIntN(64, value as bigint)));
  }

  messages(field: number): Message[] {
    return this.all(field).map((value) => new Message(value as Uint8Array));
  }
}

const utf8 = (bytes: Uint8Array): string => new TextDecoder('utf-8', { fatal: true }).decode(bytes);
