import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import forge from 'node-forge';
import type { DerNode } from './der.js';
import { parseDer, splitDer } from './der.js';
import { readNamedBits, readOid, readTime } from './der-read.js';
import { encode, namedBits, oid, sequence, time, unsignedInteger, YEAR_2050 } from './der-write.js';
import { PkiError } from './errors.js';
import { OID } from './oids.js';

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));

/** The element tree without bytes, for comparison with another parser's. */
function shape(node: DerNode): unknown {
  const constructed = (node.tag & 0x20) !== 0;
  return [node.tag, constructed ? node.children.map(shape) : Buffer.from(node.content).toString('hex')];
}

/** The same from node-forge; undefined where it refuses. */
function forgeShape(bytes: Uint8Array): unknown {
  const walk = (node: forge.asn1.Asn1): unknown => [
    node.tagClass | (node.constructed ? 0x20 : 0) | node.type,
    node.constructed
      ? (node.value as forge.asn1.Asn1[]).map(walk)
      : Buffer.from(
          node.value as string,
          node.type === forge.asn1.Type.BMPSTRING ? 'utf16le' : 'latin1',
        ).toString('hex'),
  ];
  const read = forge.asn1.fromDer as unknown as (der: string, options: object) => forge.asn1.Asn1;
  try {
    return walk(read(Buffer.from(bytes).toString('latin1'), { strict: true, decodeBitStrings: false }));
  } catch {
    return undefined;
  }
}

describe('parseDer', () => {
  it('gives tags, contents and exact bytes', () => {
    const bytes = hex('30 08 02 01 05 04 03 61 62 63');
    const node = parseDer(bytes, 'x');
    expect(Buffer.from(node.der)).toEqual(Buffer.from(bytes));
    expect(node.children.map(({ tag }) => tag)).toEqual([2, 4]);
    expect(Buffer.from(node.children[1]?.content ?? []).toString()).toBe('abc');
    expect(Buffer.from(node.children[1]?.der ?? []).toString('hex')).toBe('0403616263');
  });

  it.each([
    ['nothing', ''],
    ['a header cut off', '30'],
    ['a content cut off', '30 03 02 01'],
    ['bytes behind the end', '05 00 00'],
    ['an indefinite length', '30 80 05 00 00 00'],
    ['a long-winded length', '04 81 01 00'],
    ['a length with leading zeros', '04 82 00 80' + '00'.repeat(128)],
    ['a length of five bytes', '04 85 00 00 00 00 01 00'],
    ['a child longer than its parent', '30 03 04 05 00 00 00'],
    ['a child that ends in the next element', '30 06 30 02 04 03 05 00'],
    ['a padded INTEGER', '02 02 00 7f'],
    ['a padded negative INTEGER', '02 02 ff 80'],
    ['an empty INTEGER', '02 00'],
    ['a BOOLEAN of 01', '01 01 01'],
    ['a BOOLEAN of two bytes', '01 02 ff ff'],
    ['a NULL with content', '05 01 00'],
    ['a constructed OCTET STRING', '24 03 04 01 00'],
    ['a constructed BIT STRING', '23 04 03 02 00 00'],
    ['a primitive SEQUENCE', '10 00'],
    ['a multi-byte tag', '1f 81 01 00'],
    ['end-of-contents that is constructed', '20 00'],
    ['an application tag', '41 00'],
    ['a private tag', 'c1 00'],
  ])('refuses %s', (_, text) => {
    expect(() => parseDer(hex(text), 'x')).toThrow(PkiError);
  });

  it('bounds size and depth', () => {
    expect(() => parseDer(new Uint8Array(100), 'x', { maxBytes: 99 })).toThrow('99 are allowed');
    let deep: Uint8Array = encode(5);
    for (let i = 0; i < 16; i++) deep = sequence(deep);
    expect(parseDer(deep, 'x').children).toHaveLength(1);
    expect(() => parseDer(sequence(deep), 'x')).toThrow('nested deeper');
    expect(() => parseDer(hex('3080'.repeat(20_000)), 'x')).toThrow(PkiError);
  });

  const element: fc.Memo<Uint8Array> = fc.memo((depth) => {
    const primitive = fc
      .tuple(fc.constantFrom(0x04, 0x0c, 0x13, 0x16, 0x80, 0x82, 0x86), fc.uint8Array({ maxLength: 300 }))
      .map(([tag, content]) => encode(tag, content));
    const number = fc.uint8Array({ maxLength: 20 }).map(unsignedInteger);
    if (depth <= 1) return fc.oneof(primitive, number);
    const nested = fc
      .tuple(fc.constantFrom(0x30, 0x31, 0xa0, 0xa3), fc.array(element(depth - 1), { maxLength: 4 }))
      .map(([tag, parts]) => encode(tag, ...parts));
    return fc.oneof(primitive, number, nested);
  });

  it('reads what was written, as node-forge does', () => {
    fc.assert(
      fc.property(element(5), (bytes) => {
        const node = parseDer(bytes, 'x');
        expect(Buffer.from(node.der).equals(Buffer.from(bytes))).toBe(true);
        expect(shape(node)).toEqual(forgeShape(bytes));
      }),
      { numRuns: 300 },
    );
  });

  it('never accepts changed bytes that node-forge refuses, nor reads them differently', () => {
    fc.assert(
      fc.property(element(4), fc.nat(), fc.nat(255), (bytes, position, byte) => {
        const changed = Uint8Array.from(bytes);
        changed[position % changed.length] = byte;
        let node: DerNode;
        try {
          node = parseDer(changed, 'x');
        } catch (error) {
          expect(error).toBeInstanceOf(PkiError);
          return;
        }
        // forge takes any element with tag number 30 for a BMPString, whatever its class.
        if (!changed.some((value) => (value & 0x1f) === 0x1e))
          expect(shape(node)).toEqual(forgeShape(changed));
      }),
      { numRuns: 2000 },
    );
  });

  it('refuses random bytes by a PkiError only', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          parseDer(bytes, 'x');
        } catch (error) {
          expect(error).toBeInstanceOf(PkiError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('splitDer', () => {
  it('cuts elements apart', () => {
    const parts = [sequence(), encode(4, new Uint8Array(300)), encode(5)];
    expect(splitDer(Buffer.concat(parts), 'x', 3).map((part) => part.length)).toEqual([2, 304, 2]);
    expect(splitDer(new Uint8Array(), 'x', 3)).toEqual([]);
  });

  it('refuses more than the limit, and a last one that is cut off', () => {
    expect(() => splitDer(hex('05 00 05 00'), 'x', 1)).toThrow('more than 1');
    expect(() => splitDer(hex('05 00 05'), 'x', 9)).toThrow(PkiError);
    expect(() => splitDer(hex('05 00 04 05 00'), 'x', 9)).toThrow('cut off');
  });
});

describe('values', () => {
  it('round-trips every object identifier that is used', () => {
    for (const name of Object.values(OID)) {
      expect(readOid(parseDer(oid(name), 'x'), 'x')).toBe(name);
      expect(forge.asn1.derToOid(Buffer.from(oid(name).subarray(2)).toString('latin1'))).toBe(name);
    }
  });

  it.each([
    '06 00',
    '06 01 80',
    '06 02 80 01',
    '06 02 2a 86',
    '06 09 2a ff ff ff ff ff ff ff 7f',
    '04 01 2a',
  ])('refuses %s as an object identifier', (text) => {
    expect(() => readOid(parseDer(hex(text), 'x'), 'x')).toThrow(PkiError);
  });

  it('round-trips named bits without trailing zeros', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(8), { minLength: 1 }), (bits) => {
        const node = parseDer(namedBits(bits), 'x');
        expect(readNamedBits(node, 'x')).toEqual([...bits].sort((a, b) => a - b));
        expect(node.content.at(-1)).not.toBe(0);
      }),
    );
  });

  it.each(['03 00', '03 01 01', '03 02 08 80', '03 02 01 81'])('refuses %s as named bits', (text) => {
    expect(() => readNamedBits(parseDer(hex(text), 'x'), 'x')).toThrow(PkiError);
  });

  it('writes UTCTime until 2049 and GeneralizedTime from 2050', () => {
    expect(Buffer.from(time(YEAR_2050 - 1)).toString('latin1', 2)).toBe('491231235959Z');
    expect(Buffer.from(time(YEAR_2050)).toString('latin1', 2)).toBe('20500101000000Z');
    expect([time(YEAR_2050 - 1)[0], time(YEAR_2050)[0]]).toEqual([0x17, 0x18]);
  });

  it('round-trips times to the second', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 253_402_300_799 }), fc.nat(999), (second, ms) => {
        expect(readTime(parseDer(time(second * 1000 + ms), 'x'), 'x')).toBe(second * 1000);
      }),
    );
  });

  it.each([
    '260230000000Z',
    '260431000000Z',
    '261301000000Z',
    '260001000000Z',
    '260100000000Z',
    '250229000000Z',
    '260101240000Z',
    '260101006000Z',
    '260101000060Z',
    '2601010000Z',
    '260101000000+0100',
    '260101000000z',
    '26010100000 Z',
    '-60101000000Z',
    '',
  ])('refuses UTCTime %j', (text) => {
    expect(() => readTime(parseDer(encode(0x17, Buffer.from(text)), 'x'), 'x')).toThrow(PkiError);
  });

  it('reads 29 February of a leap year, and the last century', () => {
    const read = (text: string) =>
      new Date(readTime(parseDer(encode(0x17, Buffer.from(text)), 'x'), 'x')).toISOString();
    expect(read('280229000000Z')).toBe('2028-02-29T00:00:00.000Z');
    expect(read('500101000000Z')).toBe('1950-01-01T00:00:00.000Z');
  });
});
