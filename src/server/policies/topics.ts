import { namespaceOf } from '../../access/policy/spiffe-namespace.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';

/**
 * Items belong to topics, and a node follows topics. Texts, so that they are keys of maps; names that people choose come
 * last in each, so that no two are the same text.
 */
export const TOPIC = {
  /** What every node needs: the trust domain, cluster-wide policies, roles. */
  everywhere: 'everywhere',
  /** The pods of a node. */
  node: (name: string): string => `node/${name}`,
  /** The policies and the labels of a namespace. */
  namespace: (name: string): string => `namespace/${name}`,
  /** The IDs that an identity gives out, by its key. */
  identity: (key: string): string => `identity/${key}`,
  /** The namespaces that a selector selects, which is written out as JSON. */
  selected: (selector: unknown): string => `${SELECTED}${JSON.stringify(selector)}`,
  /** What is known of all callers, of those with an ID under a namespace, or of those with one ID. */
  sources: 'sources',
  sourcesOf: (namespace: string): string => `sources-of/${namespace}`,
  source: (uri: string): string => `source/${uri}`,
} as const;

const SELECTED = 'selected/';

/** The selector of a topic of selected namespaces; undefined when it is another topic. */
export function selectorOf(topic: string): unknown {
  return topic.startsWith(SELECTED) ? JSON.parse(topic.slice(SELECTED.length)) : undefined;
}

/** The topics to which what is known of a caller belongs. */
export function topicsOfSource(uri: string): readonly string[] {
  const namespace = namespaceOf(parseSpiffeId(uri).path);
  return [TOPIC.sources, ...(namespace === undefined ? [] : [TOPIC.sourcesOf(namespace)]), TOPIC.source(uri)];
}
