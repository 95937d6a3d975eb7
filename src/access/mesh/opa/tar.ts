import { gzipSync } from 'node:zlib';

/** A file of an archive. */
export interface ArchiveFile {
  /** Without a leading slash; at most 100 bytes, in ASCII. */
  readonly name: string;
  readonly content: Buffer;
}

const BLOCK = 512;

/**
 * A gzipped tar archive (POSIX ustar). The same files give the same bytes: owner, mode and times are fixed.
 */
export function tarGz(files: readonly ArchiveFile[]): Buffer {
  const blocks = files.flatMap(({ name, content }) => [
    header(name, content.length),
    content,
    Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK),
  ]);
  const archive = gzipSync(Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]), { level: 9 });
  archive[9] = 255; // the operating system, "unknown": it would tell one machine from another (RFC 1952 §2.3.1)
  return archive;
}

function header(name: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  if (name.length > 100) throw new RangeError(`the name ${name} is too long for an archive`);
  const octal = (value: number, length: number): string => value.toString(8).padStart(length - 1, '0') + '\0';
  block.write(name, 0, 'ascii');
  block.write(octal(0o644, 8), 100);
  block.write(octal(0, 8), 108);
  block.write(octal(0, 8), 116);
  block.write(octal(size, 12), 124);
  block.write(octal(0, 12), 136);
  block.write('        ', 148); // the checksum counts as blanks in itself
  block.write('0', 156);
  block.write('ustar\x0000', 257);
  block.write(octal(0, 8), 329);
  block.write(octal(0, 8), 337);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
