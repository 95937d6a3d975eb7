import { createHash } from 'node:crypto';
import type { KeyType } from '../pki/keys.js';
import type { Authority, AuthoritySet, AuthoritySlot } from './authority-set.js';
import { inSlot } from './authority-set.js';
import type { JournalState } from './journal.js';

/**
 * The journal's format, version 1: `{ "format": "signet-journal/1", "sha256": "<hex>", "state": { … } }`. The checksum
 * is over the JSON text of `state`, so a file that is cut short or changed is never taken for a whole one.
 */
export const JOURNAL_FORMAT = 'signet-journal/1';
/** The largest journal that is read, in bytes: 512 authorities of the largest kind fit. */
export const MAX_JOURNAL_BYTES = 8 * 1024 * 1024;

const SLOTS: readonly string[] = ['prepared', 'active', 'old'] satisfies AuthoritySlot[];
const KEY_TYPES: readonly string[] = [
  'ec-p256',
  'ec-p384',
  'ed25519',
  'rsa-2048',
  'rsa-4096',
] satisfies KeyType[];

/** A state as bytes. */
export function encodeJournal(state: JournalState): Uint8Array {
  const text = JSON.stringify({
    version: state.version,
    trustDomain: state.trustDomain,
    sequence: state.set.sequence,
    authorities: state.set.authorities.map(encodeAuthority),
  });
  return Buffer.from(`{"format":"${JOURNAL_FORMAT}","sha256":"${checksum(text)}","state":${text}}\n`);
}

function encodeAuthority(authority: Authority): object {
  return authority.kind === 'x509'
    ? {
        ...authority,
        certificate: base64(authority.certificate),
        intermediates: authority.intermediates.map(base64),
        roots: authority.roots.map(base64),
      }
    : { ...authority, spki: base64(authority.spki) };
}

/** The state in these bytes. Throws an Error that says what is wrong with them. */
export function decodeJournal(data: Uint8Array): JournalState {
  const file = new Reader('the journal', parseJson(data));
  const format = file.string('format');
  if (format !== JOURNAL_FORMAT) {
    throw new Error(
      `its format is "${format.slice(0, 40)}"; this version of Signet reads "${JOURNAL_FORMAT}"`,
    );
  }
  const state = new Reader('state', file.value('state'));
  // Parsing keeps the order of fields, so the same text comes out again.
  if (checksum(JSON.stringify(file.value('state'))) !== file.string('sha256'))
    throw new Error('its checksum differs');
  const set: AuthoritySet = {
    sequence: state.count('sequence'),
    authorities: state.list('authorities').map((value, index) => decodeAuthority(index, value)),
  };
  checkSlots(set);
  return { version: state.count('version'), trustDomain: state.string('trustDomain'), set };
}

function parseJson(data: Uint8Array): unknown {
  if (data.length === 0) throw new Error('it is empty');
  try {
    return JSON.parse(Buffer.from(data).toString('utf8'));
  } catch (cause) {
    throw new Error('it is cut short or no JSON', { cause });
  }
}

function decodeAuthority(index: number, value: unknown): Authority {
  const read = new Reader(`authorities[${index}]`, value);
  const kind = read.oneOf('kind', ['x509', 'jwt']);
  const base = {
    id: read.string('id'),
    keyId: read.string('keyId'),
    keyType: read.oneOf('keyType', KEY_TYPES) as KeyType,
    subject: read.string('subject'),
    slot: read.oneOf('slot', SLOTS) as AuthoritySlot,
    published: read.flag('published'),
    tainted: read.flag('tainted'),
    revoked: read.flag('revoked'),
    notBefore: read.count('notBefore'),
    notAfter: read.count('notAfter'),
  };
  if (kind === 'jwt') return { kind, ...base, spki: read.bytes('spki') };
  return {
    kind: 'x509',
    ...base,
    certificate: read.bytes('certificate'),
    intermediates: read.list('intermediates').map((text) => read.decode('intermediates', text)),
    roots: read.list('roots').map((text) => read.decode('roots', text)),
  };
}

/** What the state machine always keeps, and so a state that lacks it is no state of ours. */
function checkSlots(set: AuthoritySet): void {
  for (const authority of set.authorities) {
    const { kind, slot, id } = authority;
    if (slot !== 'old' && inSlot(set, kind, slot) !== authority)
      throw new Error(`two ${kind} authorities are ${slot}`);
    if (slot === 'active' && !authority.published)
      throw new Error(`active authority ${id} was never published`);
    if (slot !== 'old' && (authority.tainted || authority.revoked)) {
      throw new Error(`${slot} authority ${id} is tainted or revoked`);
    }
  }
}

/** Takes typed fields out of a parsed object, with errors that name them. */
class Reader {
  readonly #where: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(where: string, value: unknown) {
    if (typeof value !== 'object' || value === null) throw new Error(`${where} is no object`);
    this.#where = where;
    this.#fields = value as Record<string, unknown>;
  }

  value(name: string): unknown {
    return this.#fields[name];
  }

  string(name: string): string {
    const value = this.#fields[name];
    return typeof value === 'string' && value !== '' ? value : this.#fail(name, 'is no text');
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const value = this.string(name);
    return allowed.find((one) => one === value) ?? this.#fail(name, `is not one of ${allowed.join(', ')}`);
  }

  flag(name: string): boolean {
    const value = this.#fields[name];
    return typeof value === 'boolean' ? value : this.#fail(name, 'is not true or false');
  }

  count(name: string): number {
    const value = this.#fields[name];
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    return this.#fail(name, 'is no whole number');
  }

  list(name: string): readonly unknown[] {
    const value = this.#fields[name];
    return Array.isArray(value) ? (value as unknown[]) : this.#fail(name, 'is no list');
  }

  bytes(name: string): Uint8Array {
    return this.decode(name, this.#fields[name]);
  }

  decode(name: string, text: unknown): Uint8Array {
    if (typeof text !== 'string' || !/^[A-Za-z0-9+/]+={0,2}$/.test(text))
      return this.#fail(name, 'is no base64 text');
    return new Uint8Array(Buffer.from(text, 'base64'));
  }

  #fail(name: string, problem: string): never {
    throw new Error(`${this.#where}.${name} ${problem}`);
  }
}

function base64(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
}

function checksum(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
