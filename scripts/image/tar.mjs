// The blocks of a tar archive (POSIX.1-2001 ustar, with a pax record where a path is too long for it).
import { Buffer } from 'node:buffer';

const BLOCK = 512;

/** The header of an entry, owned by 0:0 and of time 0. `size` is that of the bytes that follow it. */
export function header({ path, mode, size = 0, target, folder = false }) {
  const name = folder ? `${path}/` : path;
  const type = folder ? '5' : target === undefined ? '0' : '2';
  const split = splitName(name);
  const block = fields({
    ...(split ?? { name: tail(name), prefix: '' }),
    mode,
    size,
    type,
    target: tail(target ?? ''),
  });
  const records = [];
  if (split === undefined) records.push(record('path', name));
  if (target !== undefined && Buffer.byteLength(target) > 100) records.push(record('linkpath', target));
  if (records.length === 0) return block;
  const text = Buffer.from(records.join(''));
  const pax = fields({ name: 'pax', prefix: '', mode: 0o644, size: text.length, type: 'x', target: '' });
  return Buffer.concat([pax, text, padding(text.length), block]);
}

/** The zeros that fill the last block after `size` bytes. */
export function padding(size) {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

function fields({ name, prefix, mode, size, type, target }) {
  const block = Buffer.alloc(BLOCK);
  const octal = (value, at, length) =>
    block.write(value.toString(8).padStart(length - 1, '0'), at, length - 1, 'latin1');
  block.write(name, 0, 100);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  block.write(type, 156);
  block.write(target, 157, 100);
  block.write('ustar\x0000', 257, 'latin1');
  octal(0, 329, 8);
  octal(0, 337, 8);
  block.write(prefix, 345, 155);
  // The sum is taken with blanks in its own field.
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\x00 `, 148, 'latin1');
  return block;
}

/** A name as `prefix/name`, or undefined when it does not fit. */
function splitName(path) {
  if (Buffer.byteLength(path) <= 100) return { name: path, prefix: '' };
  for (let at = path.indexOf('/'); at > 0 && at < path.length - 1; at = path.indexOf('/', at + 1)) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    if (Buffer.byteLength(name) <= 100 && Buffer.byteLength(prefix) <= 155) return { name, prefix };
  }
  return undefined;
}

function tail(text) {
  return Buffer.from(text).subarray(-100).toString('latin1');
}

/** A pax record: its length, which counts itself, a key and a value. */
function record(key, value) {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + String(rest).length;
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}
