import type { ApiRequest, ApiStreamRequest, KubernetesApi } from '../../src/store/kubernetes/api.js';

type Fields = Readonly<Record<string, unknown>>;

/** The objects of one kind. They are made when they are asked for, so that what they weigh is not this program's. */
export interface MemoryKind {
  readonly plural: string;
  readonly count: number;
  /** As the API server has it, status and version left out. */
  readonly object: (index: number) => Fields;
}

/** An API server in the same process, which holds what was written and nothing else. */
export interface MemoryApi extends KubernetesApi {
  /** Requests that wrote something, so far. */
  readonly writes: number;
  /** Adds an object, or changes it. */
  put(plural: string, object: Fields): void;
}

/** Answers lists (as streams and in pages), watches and applied statuses, in JSON that is read anew, as from a socket. */
export function memoryApi(kinds: readonly MemoryKind[]): MemoryApi {
  const byPlural = new Map(kinds.map((kind) => [kind.plural, kind]));
  const watches = new Map<string, Set<Lines>>();
  /** Where they are known by other than their kind: objects by plural, namespace and name. */
  const put = new Map<string, Fields>();
  const statuses = new Map<string, unknown>();
  let version = 1;
  let writes = 0;

  const tell = (plural: string, object: Fields): Fields => {
    const status = statuses.get(idOf(plural, object));
    const metadata = { ...metadataOf(object), resourceVersion: String(++version) };
    const now = { ...object, metadata, ...(status === undefined ? {} : { status }) };
    for (const lines of watches.get(plural) ?? [])
      lines.push(JSON.stringify({ type: 'MODIFIED', object: now }));
    return now;
  };

  return {
    namespace: undefined,
    get writes() {
      return writes;
    },
    isAlive: () => Promise.resolve(true),
    close: () => undefined,
    put(plural, object) {
      put.set(idOf(plural, object), object);
      tell(plural, object);
    },
    send({ method, path, body }: ApiRequest) {
      const { plural, namespace, name } = placeOf(path);
      const { status } = (body ?? {}) as { readonly status?: unknown };
      if (method !== 'PATCH' || name === undefined || status === undefined)
        return Promise.reject(new Error(`${method} ${path} is not served`));
      writes += 1;
      const id = `${plural} ${namespace ?? ''}/${name}`;
      statuses.set(id, status);
      const object = put.get(id) ?? find(byPlural.get(plural), namespace, name);
      return Promise.resolve(JSON.parse(JSON.stringify(tell(plural, object))));
    },
    stream({ path, query, signal }: ApiStreamRequest) {
      const { plural } = placeOf(path);
      const lines = new Lines(query?.['sendInitialEvents'] === 'true' ? initial(byPlural.get(plural)) : []);
      const known = watches.get(plural) ?? new Set<Lines>();
      watches.set(plural, known.add(lines));
      signal.addEventListener('abort', () => {
        known.delete(lines);
        lines.end();
      });
      return Promise.resolve(lines);
    },
  };
}

/** The lines of one watch. */
class Lines implements AsyncIterable<string> {
  readonly #first: Iterable<string>;
  readonly #queue: string[] = [];
  #wake: (() => void) | undefined;
  #ended = false;

  constructor(first: Iterable<string>) {
    this.#first = first;
  }

  push(line: string): void {
    this.#queue.push(line);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void> {
    yield* this.#first;
    while (!this.#ended) {
      for (let line = this.#queue.shift(); line !== undefined; line = this.#queue.shift()) yield line;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

/** All objects of a kind as events, and the bookmark after them. */
function* initial(kind: MemoryKind | undefined): Iterable<string> {
  for (let index = 0; index < (kind?.count ?? 0); index++) {
    const object = kind?.object(index) ?? {};
    const metadata = { ...metadataOf(object), resourceVersion: '1' };
    yield JSON.stringify({ type: 'ADDED', object: { ...object, metadata } });
  }
  const annotations = { 'k8s.io/initial-events-end': 'true' };
  yield JSON.stringify({ type: 'BOOKMARK', object: { metadata: { resourceVersion: '1', annotations } } });
}

function find(kind: MemoryKind | undefined, namespace: string | undefined, name: string): Fields {
  for (let index = 0; index < (kind?.count ?? 0); index++) {
    const object = kind?.object(index) ?? {};
    const metadata = metadataOf(object);
    if (metadata['name'] === name && metadata['namespace'] === namespace) return object;
  }
  throw new Error(`there is no ${kind?.plural ?? 'kind of'} ${namespace ?? ''}/${name}`);
}

const metadataOf = (object: Fields): Fields => (object['metadata'] ?? {}) as Fields;

function idOf(plural: string, object: Fields): string {
  const { namespace = '', name } = metadataOf(object) as {
    readonly namespace?: string;
    readonly name: string;
  };
  return `${plural} ${namespace}/${name}`;
}

function placeOf(path: string): {
  readonly plural: string;
  readonly namespace?: string;
  readonly name?: string;
} {
  const [, namespace, plural = '', name] =
    /^\/(?:api\/v1|apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([^/]+)(?:\/([^/]+)(?:\/status)?)?$/.exec(
      path,
    ) ?? [];
  return {
    plural,
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === undefined ? {} : { name }),
  };
}
