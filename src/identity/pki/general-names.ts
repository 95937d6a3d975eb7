import type { DerNode } from './der.js';
import { contextTag, TAG } from './der.js';
import { expectTag, readAscii } from './der-read.js';
import { ascii, encode } from './der-write.js';
import { refuse } from './errors.js';

/** The kinds of name that we read; others are kept in `other` so that their presence is known. */
export interface GeneralNames {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** Raw address bytes: 4 or 16. */
  readonly ipAddresses: readonly Uint8Array[];
  readonly emails: readonly string[];
  /** Directory names, DER. */
  readonly directoryNames: readonly Uint8Array[];
  /** How many names of other kinds there are. */
  readonly other: number;
}

/** No names. */
export const NO_NAMES: GeneralNames = {
  uris: [],
  dnsNames: [],
  ipAddresses: [],
  emails: [],
  directoryNames: [],
  other: 0,
};

const EMAIL = contextTag(1, false);
const DNS = contextTag(2, false);
const DIRECTORY = contextTag(4, true);
const URI = contextTag(6, false);
const IP = contextTag(7, false);

/** One GeneralName (RFC 5280 §4.2.1.6), as far as we know its kind. */
export type GeneralName =
  | { readonly kind: 'uri' | 'dns' | 'email'; readonly text: string }
  | { readonly kind: 'ip' | 'directory'; readonly bytes: Uint8Array }
  | { readonly kind: 'other' };

/** Reads one GeneralName. */
export function readGeneralName(node: DerNode): GeneralName {
  switch (node.tag) {
    case URI:
      return { kind: 'uri', text: readAscii(node.content, 'a URI name') };
    case DNS:
      return { kind: 'dns', text: readAscii(node.content, 'a DNS name') };
    case EMAIL:
      return { kind: 'email', text: readAscii(node.content, 'an e-mail name') };
    case IP:
      return { kind: 'ip', bytes: node.content };
    case DIRECTORY:
      return { kind: 'directory', bytes: expectTag(node.children[0], TAG.sequence, 'a directory name').der };
    default:
      return { kind: 'other' };
  }
}

/** Reads GeneralNames: a non-empty SEQUENCE (RFC 5280 §4.2.1.6). Throws PkiError `DerInvalid`. */
export function readGeneralNames(node: DerNode, what: string): GeneralNames {
  const { children } = expectTag(node, TAG.sequence, what);
  if (children.length === 0) refuse('DerInvalid', `${what} is empty`);
  const uris: string[] = [];
  const dnsNames: string[] = [];
  const emails: string[] = [];
  const ipAddresses: Uint8Array[] = [];
  const directoryNames: Uint8Array[] = [];
  let other = 0;
  for (const child of children) {
    const name = readGeneralName(child);
    switch (name.kind) {
      case 'uri':
        uris.push(name.text);
        break;
      case 'dns':
        dnsNames.push(name.text);
        break;
      case 'email':
        emails.push(name.text);
        break;
      case 'ip':
        if (name.bytes.length !== 4 && name.bytes.length !== 16)
          refuse('DerInvalid', `${what} holds an IP address of ${name.bytes.length} bytes`);
        ipAddresses.push(name.bytes);
        break;
      case 'directory':
        directoryNames.push(name.bytes);
        break;
      case 'other':
        other++;
    }
  }
  return { uris, dnsNames, ipAddresses, emails, directoryNames, other };
}

/** A URI as GeneralName. The caller has checked that it is ASCII. */
export function uriName(uri: string): Uint8Array {
  return encode(URI, ascii(uri));
}

/** A DNS name as GeneralName. */
export function dnsName(name: string): Uint8Array {
  return encode(DNS, ascii(name));
}
