import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { nftBatch, readAcknowledgements, type Attribute } from './messages.js';

const leaf = fc.record({
  type: fc.integer({ min: 1, max: 0x3fff }),
  value: fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes)),
});
const { attribute } = fc.letrec<{ attribute: Attribute }>((tie) => ({
  attribute: fc.oneof(
    { maxDepth: 3 },
    leaf,
    fc.record({ type: leaf.map(({ type }) => type), value: fc.array(tie('attribute'), { maxLength: 3 }) }),
  ),
}));

/** Reads attributes back, as the kernel does. */
function parse(bytes: Buffer): readonly Attribute[] {
  const found: Attribute[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt16LE(at);
    const type = bytes.readUInt16LE(at + 2);
    const value = bytes.subarray(at + 4, at + length);
    found.push(
      (type & 0x8000) === 0
        ? { type, value: Buffer.from(value) }
        : { type: type & 0x3fff, value: parse(value) },
    );
    at += (length + 3) & ~3;
  }
  return found;
}

describe('a batch of messages', () => {
  it('is read as it was meant: lengths, numbers, padding and nesting are right', () => {
    const message = fc.record({
      type: fc.integer({ min: 0, max: 25 }),
      flags: fc.constantFrom(0, 0x400, 0xc00),
      attributes: fc.array(attribute, { maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
        const bytes = nftBatch(messages);
        const read = [];
        for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at)) {
          const body = bytes.subarray(at + 20, at + bytes.readUInt32LE(at));
          read.push({
            ...{ type: bytes.readUInt16LE(at + 4), flags: bytes.readUInt16LE(at + 6) },
            ...{ sequence: bytes.readUInt32LE(at + 8), attributes: parse(body) },
          });
        }
        expect(read).toEqual([
          { type: 0x10, flags: 1, sequence: 0, attributes: [] },
          ...messages.map(({ type, flags, attributes }, index) => ({
            ...{ type: 0x0a00 + type, flags: 5 | flags, sequence: index + 1, attributes },
          })),
          { type: 0x11, flags: 1, sequence: messages.length + 1, attributes: [] },
        ]);
      }),
    );
  });

  it('is answered by what can be read of any bytes, never more than there are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        expect(readAcknowledgements(Buffer.from(bytes)).length).toBeLessThanOrEqual(bytes.length / 20);
      }),
    );
    const refusal = Buffer.alloc(36);
    refusal.writeUInt32LE(36, 0);
    refusal.writeUInt16LE(2, 4);
    refusal.writeUInt32LE(7, 8);
    refusal.writeInt32LE(-1, 16);
    expect(readAcknowledgements(refusal)).toEqual([{ sequence: 7, error: 1 }]);
  });
});
