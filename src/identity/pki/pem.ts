import { refuse } from './errors.js';

/** The largest PEM text that is read, in characters. */
export const MAX_PEM_LENGTH = 1024 * 1024;

const LABEL = /^[A-Z0-9][A-Z0-9 ]*$/;

/** One PEM block (RFC 7468), e.g. with label `CERTIFICATE`. */
export function encodePem(label: string, der: Uint8Array): string {
  if (!LABEL.test(label)) refuse('PemInvalid', 'a PEM label is upper-case letters, digits and spaces');
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64');
  const lines = base64.match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/**
 * The contents of all blocks with this label, in order; text between blocks and blocks of other labels are skipped
 * (RFC 7468 §2). At least one block must be there.
 *
 * @throws PkiError `PemInvalid`
 */
export function decodePem(text: string, label: string): Uint8Array[] {
  if (text.length > MAX_PEM_LENGTH) {
    refuse('PemInvalid', `the PEM text has ${text.length} characters; ${MAX_PEM_LENGTH} are allowed`);
  }
  const found: Uint8Array[] = [];
  let open: { label: string; lines: string[] } | undefined;
  for (const raw of text.split(/\r?\n/)) {
    const line = raw.trim();
    const [, edge, name] = /^-----(BEGIN|END) ([A-Z0-9 ]+)-----$/.exec(line) ?? [];
    if (edge === 'BEGIN' && name !== undefined) {
      if (open !== undefined) refuse('PemInvalid', `PEM block "${open.label}" is not closed before the next`);
      open = { label: name, lines: [] };
    } else if (edge === 'END') {
      if (open === undefined || open.label !== name)
        refuse('PemInvalid', `"END ${name ?? ''}" closes no such PEM block`);
      if (name === label) found.push(decodeBase64(open.lines.join(''), label));
      open = undefined;
    } else if (open !== undefined) {
      open.lines.push(line);
    }
  }
  if (open !== undefined) refuse('PemInvalid', `PEM block "${open.label}" is not closed`);
  if (found.length === 0) refuse('PemInvalid', `there is no PEM block "${label}" in the text`);
  return found;
}

function decodeBase64(text: string, label: string): Uint8Array {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) {
    refuse('PemInvalid', `PEM block "${label}" is not base64`);
  }
  return Uint8Array.from(Buffer.from(text, 'base64'));
}
