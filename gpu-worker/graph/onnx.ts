/** Writes a graph as an ONNX ModelProto (onnx.proto3, IR version 10). Weights stay outside, by file, offset and length. */
import { asBytes, bytesPerElement, elementCount, onnxCode, type TypedArray } from '../tensor/dtype.ts';
import type { Attribute, Graph, Node, Value } from './ir.ts';
import { ProtobufWriter } from './protobuf.ts';

const IR_VERSION = 10;
const OPSETS = { '': 21, 'com.microsoft': 1, switchyard: 1 } as const;

/** Where a weight's bytes lie in the file of external data. */
export interface WeightLocation {
  offset: number;
  length: number;
}

export interface ExternalData {
  /** File name, relative to the model's folder. */
  file: string;
  locations: ReadonlyMap<string, WeightLocation>;
}

export function toOnnx(graph: Graph, external: ExternalData): Uint8Array {
  const proto = new ProtobufWriter();
  for (const node of graph.nodes) proto.message(1, nodeProto(node));
  proto.string(2, 'switchyard');
  for (const { value, data } of graph.constants) proto.message(5, inlineTensor(value, data));
  for (const { value } of graph.weights.values()) proto.message(5, externalTensor(value, external));
  for (const value of graph.inputs) proto.message(11, valueInfo(value));
  for (const value of graph.outputs) proto.message(12, valueInfo(value));
  const model = new ProtobufWriter().int(1, IR_VERSION);
  for (const [domain, version] of Object.entries(OPSETS)) model.message(8, new ProtobufWriter().string(1, domain).int(2, version));
  return model.message(7, proto).finish();
}

function nodeProto(node: Node): ProtobufWriter {
  const proto = new ProtobufWriter();
  for (const value of node.inputs) proto.string(1, value?.name ?? '');
  for (const value of node.outputs) proto.string(2, value?.name ?? '');
  proto.string(3, node.name).string(4, node.op);
  for (const [name, attribute] of Object.entries(node.attributes)) proto.message(5, attributeProto(name, attribute));
  if (node.domain) proto.string(7, node.domain);
  return proto;
}

function attributeProto(name: string, attribute: Attribute): ProtobufWriter {
  const proto = new ProtobufWriter().string(1, name);
  if ('int' in attribute) return proto.int(3, attribute.int).int(20, 2);
  if ('float' in attribute) return proto.float(2, attribute.float).int(20, 1);
  if ('string' in attribute) return proto.string(4, attribute.string).int(20, 3);
  for (const x of attribute.ints) proto.int(8, x);
  return proto.int(20, 7);
}

function tensorHeader(value: Value): ProtobufWriter {
  const proto = new ProtobufWriter();
  for (const dim of value.dims) proto.int(1, Number(dim));
  return proto.int(2, onnxCode[value.dtype]).string(8, value.name);
}

function inlineTensor(value: Value, data: TypedArray): ProtobufWriter {
  return tensorHeader(value).bytes(9, asBytes(data));
}

function externalTensor(value: Value, external: ExternalData): ProtobufWriter {
  const location = external.locations.get(value.name);
  const expected = elementCount(value.dims.map(Number)) * bytesPerElement[value.dtype];
  if (location?.length !== expected)
    throw new Error(`external data of ${value.name}: expected ${expected} bytes, got ${location?.length ?? 'none'}`);
  const proto = tensorHeader(value);
  for (const [key, text] of [
    ['location', external.file],
    ['offset', String(location.offset)],
    ['length', String(location.length)],
  ] as const) {
    proto.message(13, new ProtobufWriter().string(1, key).string(2, text));
  }
  return proto.int(14, 1);
}

function valueInfo(value: Value): ProtobufWriter {
  const shape = new ProtobufWriter();
  for (const dim of value.dims)
    shape.message(1, typeof dim === 'string' ? new ProtobufWriter().string(2, dim) : new ProtobufWriter().int(1, dim));
  const tensorType = new ProtobufWriter().int(1, onnxCode[value.dtype]).message(2, shape);
  return new ProtobufWriter().string(1, value.name).message(2, new ProtobufWriter().message(1, tensorType));
}
