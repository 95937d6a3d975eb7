// Writes a container image of one layer without a container builder: the docker-archive that `ctr images import`,
// `docker load` and registries' tools take. The same entries give the same bytes: no time, owner or order of a machine is in it.
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { header, padding } from './tar.mjs';

const CHUNK = 1 << 20;
const EPOCH = '1970-01-01T00:00:00Z';

/**
 * Writes `file`. `entries` are the image's root file system: `{ path, mode, content | source | target }`, where a path has no
 * leading slash, `content` is a Buffer, `source` a file to copy, `target` what a symbolic link says, and none of them is a
 * folder. Folders on the way to a file need not be named. Answers `{ digest, size }`: the layer's.
 */
export function writeImage(file, { name, architecture, config, entries }) {
  const layer = withFolders(entries).map((entry) => ({ ...entry, ...blocksOf(entry) }));
  const size = layer.reduce(
    (sum, { head, length }) => sum + head.length + length + padding(length).length,
    1024,
  );
  const hash = createHash('sha256');
  const out = openSync(file, 'w');
  const write = (bytes) => void writeSync(out, bytes);
  const writeBoth = (bytes) => {
    hash.update(bytes);
    write(bytes);
  };
  try {
    write(header({ path: 'layer.tar', mode: 0o644, size }));
    for (const entry of layer) {
      writeBoth(entry.head);
      if (entry.source !== undefined) copyInto(entry.source, entry.length, writeBoth);
      else if (entry.content !== undefined) writeBoth(entry.content);
      writeBoth(padding(entry.length));
    }
    writeBoth(Buffer.alloc(1024));
    write(padding(size));
    const digest = `sha256:${hash.digest('hex')}`;
    const image = {
      architecture,
      os: 'linux',
      created: EPOCH,
      config,
      rootfs: { type: 'layers', diff_ids: [digest] },
      history: [{ created: EPOCH, created_by: 'scripts/image' }],
    };
    const text = Buffer.from(JSON.stringify(image));
    const configName = `${createHash('sha256').update(text).digest('hex')}.json`;
    const manifest = [{ Config: configName, RepoTags: [name], Layers: ['layer.tar'] }];
    for (const [path, content] of [
      [configName, text],
      ['manifest.json', Buffer.from(JSON.stringify(manifest))],
    ]) {
      write(header({ path, mode: 0o644, size: content.length }));
      write(content);
      write(padding(content.length));
    }
    write(Buffer.alloc(1024));
    return { digest, size };
  } finally {
    closeSync(out);
  }
}

/** The entries and the folders that they lie in, each once, in the order of their paths: a folder before what is in it. */
export function withFolders(entries) {
  const all = new Map();
  for (const entry of entries) {
    const steps = entry.path.split('/');
    for (let depth = 1; depth < steps.length; depth++) {
      const path = steps.slice(0, depth).join('/');
      if (!all.has(path)) all.set(path, { path, mode: 0o755 });
    }
    const before = all.get(entry.path);
    const isFolder = (one) =>
      one.content === undefined && one.source === undefined && one.target === undefined;
    if (before !== undefined && !(isFolder(before) && isFolder(entry)))
      throw new Error(`${entry.path} is there twice`);
    all.set(entry.path, entry);
  }
  return [...all.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function blocksOf({ path, mode, content, source, target }) {
  if (target !== undefined) return { head: header({ path, mode: 0o777, target }), length: 0 };
  if (content === undefined && source === undefined)
    return { head: header({ path, mode, folder: true }), length: 0 };
  const length = content === undefined ? statSync(source).size : content.length;
  return { head: header({ path, mode, size: length }), length };
}

function copyInto(source, length, write) {
  const from = openSync(source, 'r');
  const buffer = Buffer.alloc(Math.min(CHUNK, Math.max(length, 1)));
  try {
    for (let left = length; left > 0;) {
      const got = readSync(from, buffer, 0, Math.min(buffer.length, left), null);
      if (got === 0) throw new Error(`${source} became shorter while it was read`);
      write(buffer.subarray(0, got));
      left -= got;
    }
  } finally {
    closeSync(from);
  }
}
