import type { DerNode } from './der.js';
import { parseDer, TAG } from './der.js';
import { expectTag, readOid } from './der-read.js';
import { ascii, encode, oid, sequence, setOfOne } from './der-write.js';
import { refuse } from './errors.js';
import { OID } from './oids.js';

/** The distinguished name without any attribute, DER. */
export const EMPTY_NAME: Uint8Array = sequence();

const SHORT: ReadonlyMap<string, string> = new Map([
  [OID.commonName, 'CN'],
  [OID.country, 'C'],
  [OID.locality, 'L'],
  [OID.state, 'ST'],
  [OID.organization, 'O'],
  [OID.organizationalUnit, 'OU'],
  [OID.serialNumber, 'SERIALNUMBER'],
]);

/** An attribute of a distinguished name. */
export interface NameAttribute {
  readonly type: 'organization' | 'commonName' | 'serialNumber';
  /** ASCII. */
  readonly value: string;
}

/** A distinguished name, DER. Throws PkiError `NameInvalid` for a value that is empty, long or not plain ASCII. */
export function encodeName(attributes: readonly NameAttribute[]): Uint8Array {
  return sequence(
    ...attributes.map(({ type, value }) => {
      if (!/^[\x20-\x7e]{1,64}$/.test(value)) {
        refuse(
          'NameInvalid',
          `the ${type} of a certificate's name must be 1 to 64 printable ASCII characters`,
        );
      }
      const text = /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(value) ? TAG.printableString : TAG.utf8String;
      return setOfOne(sequence(oid(OID[type]), encode(text, ascii(value))));
    }),
  );
}

/** Returns the element if it is a well-formed distinguished name; else throws PkiError `DerInvalid`. */
export function checkName(node: DerNode | undefined, what: string): DerNode {
  const name = expectTag(node, TAG.sequence, what);
  for (const set of name.children) {
    const attributes = expectTag(set, TAG.set, what).children;
    if (attributes.length === 0) refuse('DerInvalid', `${what} has a relative name without attributes`);
    for (const attribute of attributes) {
      const { children } = expectTag(attribute, TAG.sequence, what);
      if (children.length !== 2) refuse('DerInvalid', `${what} has a malformed attribute`);
      readOid(children[0], what);
    }
  }
  return name;
}

/**
 * A distinguished name as text for people, in the order of RFC 4514 (last attribute first): `CN=a,O=Signet`. Never
 * compare names by it; compare their DER.
 *
 * @throws PkiError `DerInvalid`
 */
export function nameText(der: Uint8Array): string {
  const name = checkName(parseDer(der, 'a name'), 'a name');
  const parts = name.children.map((set) => set.children.map(attributeText).join('+'));
  return parts.reverse().join(',');
}

function attributeText({ children: [type, value] }: DerNode): string {
  const name = readOid(type, 'a name attribute');
  const text = Buffer.from(value?.content ?? []).toString('utf8');
  // Control characters must not reach a terminal through a certificate.
  const safe = text.replace(/[,+"\\<>;=\p{C}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return `\\${code.toString(16).padStart(2, '0')}`;
  });
  return `${SHORT.get(name) ?? name}=${safe}`;
}

/** The relative names of a distinguished name in a form that compares without case and spacing (RFC 5280 §7.1). */
export function comparableName(der: Uint8Array): readonly string[] {
  const name = checkName(parseDer(der, 'a name'), 'a name');
  return name.children.map((set) =>
    set.children
      .map((attribute) => {
        const type = readOid(attribute.children[0], 'a name attribute');
        const value = attribute.children[1];
        const text = value?.tag === TAG.printableString || value?.tag === TAG.utf8String;
        const bytes = Buffer.from(value?.content ?? []);
        if (!text) return `${type}=${value?.tag ?? 0}:${bytes.toString('hex')}`;
        return `${type}=${bytes.toString('utf8').trim().replace(/\s+/g, ' ').toLowerCase()}`;
      })
      .sort()
      .join('+'),
  );
}
