import type { FieldPath } from '../../resources/problem.js';
import type { Chunk, ChunkContent, Position } from './documents.js';
import { locate, readJson, readYaml, splitDocuments, wholeFile } from './documents.js';
import type { Entry } from './objects.js';
import { readEntries } from './objects.js';
import type { StoredObject } from '../store.js';

/** A problem of a file; positions are relative to its document, so that a document may move in the file. */
export interface DocumentProblem {
  readonly line: number;
  readonly column: number;
  readonly severity: 'error' | 'warning';
  readonly object?: string;
  readonly path: FieldPath;
  readonly message: string;
  readonly fix?: string;
}

/** One object that a document puts in force. */
export interface InForce {
  readonly id: string;
  readonly objects: readonly StoredObject[];
  /** Which of the document's values it is, and where in that (in a List). */
  readonly place: Place;
}

interface Place {
  readonly value: number;
  readonly prefix: FieldPath;
}

const FIRST: Place = { value: 0, prefix: [] };

/** One document of a file, as it was last read. */
export interface DocumentState {
  readonly hash: string;
  readonly startLine: number;
  /** Kept only where a place in it may be asked for later: for documents with Signet's own kinds. */
  readonly text: string | undefined;
  readonly inForce: readonly InForce[];
  readonly problems: readonly DocumentProblem[];
  /** Cannot be read at all, or does not say what it is. */
  readonly unreadable: boolean;
}

/** A file, as it was last read. */
export interface FileState {
  readonly documents: readonly DocumentState[];
  /** May be a file that somebody is still writing: worth a second look before it is believed. */
  readonly suspect: boolean;
}

export const EMPTY_FILE: FileState = { documents: [], suspect: false };

/**
 * Reads a file's text against what was there before: unchanged documents are taken over unread, and where a document
 * has become broken the last good version of its objects stays in force.
 */
export function readFileState(
  previous: FileState,
  text: string,
  options: { readonly json: boolean; readonly nodeName: string },
): FileState {
  const chunks = options.json ? wholeFile(text) : splitDocuments(text);
  const known = new Map(previous.documents.map((document) => [document.hash, document]));
  const documents = chunks.map((chunk): DocumentState => {
    const before = known.get(chunk.hash);
    if (before !== undefined) return { ...before, startLine: chunk.startLine };
    return readDocument(chunk, options.json ? readJson(chunk) : readYaml(chunk), options.nodeName);
  });
  const kept = keepLastGood(previous, documents, chunks);
  return { documents: kept, suspect: isSuspect(previous, kept, text, options.json) };
}

function readDocument(chunk: Chunk, content: ChunkContent, nodeName: string): DocumentState {
  const base = { hash: chunk.hash, startLine: chunk.startLine };
  if (!content.ok) {
    const { position, message, fix } = content;
    const problem: DocumentProblem = {
      ...relative(position, chunk),
      severity: 'error',
      path: [],
      message,
      ...(fix === undefined ? {} : { fix }),
    };
    return { ...base, text: undefined, inForce: [], problems: [problem], unreadable: true };
  }
  const inForce: InForce[] = [];
  const problems: DocumentProblem[] = [];
  let unreadable = false;
  let ours = false;
  content.values.forEach((value, index) => {
    for (const entry of readEntries(value, nodeName)) {
      const { prefix } = entry;
      problems.push(...located(entry, chunk, index));
      const failed = entry.problems.some(({ severity }) => severity === 'error');
      if (entry.id !== undefined) {
        const place = index === 0 && prefix.length === 0 ? FIRST : { value: index, prefix };
        inForce.push({ id: entry.id, objects: entry.objects, place });
      } else if (failed) unreadable = true;
      ours ||= entry.objects[0]?.apiVersion.startsWith('signet.dev/') === true;
    }
  });
  return { ...base, text: ours ? chunk.text : undefined, inForce, problems, unreadable };
}

function located(entry: Entry, chunk: Chunk, value: number): DocumentProblem[] {
  return entry.problems.map((problem) => ({
    ...relative(locate(chunk, value, problem.path), chunk),
    ...problem,
    ...(entry.id === undefined ? {} : { object: entry.id }),
  }));
}

function relative(position: Position, chunk: Chunk): Position {
  return { line: position.line - chunk.startLine + 1, column: position.column };
}

function keepLastGood(
  previous: FileState,
  documents: readonly DocumentState[],
  chunks: readonly Chunk[],
): DocumentState[] {
  const good = new Map<string, InForce>();
  for (const { inForce } of previous.documents) {
    for (const one of inForce) if (one.objects.length > 0) good.set(one.id, one);
  }
  const heirs = pairUnreadable(previous, documents, chunks);
  return documents.map((document, index) => {
    const heir = heirs.get(index);
    if (heir !== undefined) return inherit(document, heir);
    const lost = document.inForce.filter(({ id, objects }) => objects.length === 0 && good.has(id));
    if (lost.length === 0) return document;
    const inForce = document.inForce.map((one) => (one.objects.length > 0 ? one : (good.get(one.id) ?? one)));
    const names = new Set(lost.map(({ id }) => id));
    return {
      ...document,
      inForce,
      problems: document.problems.map((problem) =>
        problem.severity === 'error' && problem.object !== undefined && names.has(problem.object)
          ? staysInForce(problem, [problem.object])
          : problem,
      ),
    };
  });
}

/** A document that cannot be read keeps what was in force where it stands. */
function inherit(document: DocumentState, heir: DocumentState): DocumentState {
  const inForce = heir.inForce.filter(({ objects }) => objects.length > 0);
  const ids = inForce.map(({ id }) => id);
  return {
    ...document,
    inForce,
    problems: document.problems.map((problem) =>
      problem.severity === 'error' ? staysInForce({ ...problem, object: ids[0] ?? '' }, ids) : problem,
    ),
  };
}

function staysInForce(problem: DocumentProblem, ids: readonly string[]): DocumentProblem {
  const shown = ids.length <= 3 ? ids.join(', ') : `${ids.slice(0, 3).join(', ')} and ${ids.length - 3} more`;
  const note = ` (the last good version of ${shown} stays in force)`;
  // A document may be judged again and again; it says this once.
  return problem.message.endsWith(note) ? problem : { ...problem, message: problem.message + note };
}

/**
 * Which of the former documents each unreadable one most likely was: the one whose name it still carries, else the
 * first that is missing between the same neighbours.
 */
function pairUnreadable(
  previous: FileState,
  documents: readonly DocumentState[],
  chunks: readonly Chunk[],
): Map<number, DocumentState> {
  const heirs = new Map<number, DocumentState>();
  if (!documents.some(({ unreadable, inForce }) => unreadable && inForce.length === 0)) return heirs;
  const present = new Set(documents.flatMap(({ inForce }) => inForce.map(({ id }) => id)));
  const missing = new Set<number>();
  const places = new Map<string, number>();
  previous.documents.forEach((document, index) => {
    for (const { id } of document.inForce) places.set(id, index);
    const held = document.inForce.filter(({ objects }) => objects.length > 0);
    if (held.length > 0 && held.every(({ id }) => !present.has(id))) missing.add(index);
  });
  const placeOf = (document: DocumentState | undefined): number | undefined => {
    const id = document?.inForce[0]?.id;
    return id === undefined ? undefined : places.get(id);
  };
  documents.forEach((document, index) => {
    if (!document.unreadable || document.inForce.length > 0) return;
    const text = chunks[index]?.text ?? '';
    const named = [...missing].find((at) => mentions(text, previous.documents[at]));
    const after =
      documents
        .slice(0, index)
        .map(placeOf)
        .findLast((at) => at !== undefined) ?? -1;
    const before =
      documents
        .slice(index + 1)
        .map(placeOf)
        .find((at) => at !== undefined) ?? Infinity;
    const found = named ?? [...missing].find((at) => at > after && at < before);
    const heir = found === undefined ? undefined : previous.documents[found];
    if (found === undefined || heir === undefined) return;
    missing.delete(found);
    heirs.set(index, heir);
  });
  return heirs;
}

function mentions(text: string, document: DocumentState | undefined): boolean {
  const id = document?.inForce[0]?.id;
  if (id === undefined) return false;
  const [kind = '', key = ''] = id.split(' ');
  const name = key.slice(key.indexOf('/') + 1);
  const words = (field: string): string[] =>
    [...text.matchAll(new RegExp(`^[ \\t]*${field}:[ \\t]*["']?([A-Za-z0-9.-]+)`, 'gm'))].map(
      (m) => m[1] ?? '',
    );
  return words('kind').includes(kind) && words('name').includes(name);
}

/** Half a file looks like a file that lost its end: it cannot be read, lacks objects, or stops in the middle of a line. */
function isSuspect(
  previous: FileState,
  documents: readonly DocumentState[],
  text: string,
  json: boolean,
): boolean {
  if (previous.documents.length === 0 && documents.length > 0 && text.endsWith('\n')) {
    return documents.some(({ unreadable }) => unreadable);
  }
  const present = new Set(documents.flatMap(({ inForce }) => inForce.map(({ id }) => id)));
  const lost = previous.documents.some(({ inForce }) => inForce.some(({ id }) => !present.has(id)));
  if (lost || documents.length === 0) return true;
  const known = new Set(previous.documents.map(({ hash }) => hash));
  if (documents.some(({ unreadable, hash }) => unreadable && !known.has(hash))) return true;
  return !json && !text.endsWith('\n');
}
