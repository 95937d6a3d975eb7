import type { LabelRequirement } from '../../access/policy/model.js';
import { ProblemReport } from '../../access/policy/read.js';
import { labelsMatch, readSelector } from '../../access/policy/selector.js';
import { podFacts } from '../../cluster/pod-facts.js';
import { isOfTokens } from '../../cluster/revoked-tokens.js';
import type { RegistrationIndex } from '../../identity/registration/registration-index.js';
import type { PolicyItem } from '../../rpc/node-api.js';
import type { StoredObject, StoreReader } from '../../store/store.js';
import { Holders } from './holders.js';
import { identityItem, keyOf, namespaceItem, objectItem, podItem, sourceItem } from './items.js';
import { nodeOf, NodePods } from './node-pods.js';
import { selectorOf, TOPIC, topicsOfSource } from './topics.js';

/** The API server puts this label on every namespace. */
const NAME_LABEL = 'kubernetes.io/metadata.name';
/** Kinds of which every node gets all objects that {@link isSent} does not leave out. */
export const EVERYWHERE: readonly string[] = [
  'TrustDomain',
  'ClusterAccessPolicy',
  'AccessRole',
  'Revocation',
];
export const IDENTITIES: readonly string[] = ['WorkloadIdentity', 'ClusterWorkloadIdentity'];

/** Revocations of SVIDs are enforced by the server; agents hold those of tokens, which they themselves validate. */
export function isSent(object: StoredObject): boolean {
  return object.kind !== 'Revocation' || isOfTokens(object);
}

/** What there is to send, by topic and by key, as it is now. */
export class Catalogue {
  readonly pods = new NodePods();
  readonly #store: StoreReader;
  readonly #registrations: Pick<RegistrationIndex, 'all' | 'forPod'>;
  /** Keys of AccessPolicies, by namespace. */
  readonly #policies = new Map<string, Set<string>>();
  /** By topic, of those that somebody follows. */
  readonly #selectors = new Map<string, readonly LabelRequirement[]>();
  #holders: Holders | undefined;

  constructor(store: StoreReader, registrations: Pick<RegistrationIndex, 'all' | 'forPod'>) {
    this.#store = store;
    this.#registrations = registrations;
  }

  /** Who holds what; undefined until somebody has asked for it. */
  get knownHolders(): Holders | undefined {
    return this.#holders;
  }

  /** An AccessPolicy is there, or not any more. */
  list(namespace: string, key: string, isThere: boolean): void {
    const keys = this.#policies.get(namespace) ?? new Set<string>();
    if (isThere) this.#policies.set(namespace, keys.add(key));
    else if (keys.delete(key) && keys.size === 0) this.#policies.delete(namespace);
  }

  /** Whether somebody follows the topic: which namespaces are selected is looked at for these alone. */
  followed(topic: string, isFollowed: boolean): void {
    const requirements = isFollowed ? requirementsOf(topic) : undefined;
    if (requirements === undefined) this.#selectors.delete(topic);
    else this.#selectors.set(topic, requirements);
  }

  /** The keys of the items of a topic. */
  members(topic: string): Iterable<string> {
    const [kind, name] = split(topic);
    switch (kind) {
      case TOPIC.everywhere:
        return EVERYWHERE.flatMap((each) => this.#store.list(each))
          .filter(isSent)
          .map(keyOf);
      case 'node':
        return [...this.pods.pods(name)].map((key) => `Pod/${key}`);
      case 'namespace':
        return [...(this.#policies.get(name) ?? []), `Namespace/${name}`];
      case 'identity':
        return [name];
      case 'source':
        return [`Source/${name}`];
      case 'selected':
        return this.#selected(topic);
      default:
        return [...this.#whoHolds().uris()]
          .filter((uri) => topicsOfSource(uri).includes(topic))
          .map((uri) => `Source/${uri}`);
    }
  }

  /** The topics that an item belongs to. */
  topicsOf(key: string): readonly string[] {
    const [kind, name] = split(key);
    switch (kind) {
      case 'Source':
        return topicsOfSource(name);
      case 'Pod': {
        const node = nodeOf(this.#store.get(kind, name));
        return node === undefined ? [] : [TOPIC.node(node)];
      }
      case 'Namespace':
        return this.topicsOfNamespace(this.#store.get(kind, name));
      case 'AccessPolicy':
        return [TOPIC.namespace(split(name)[0])];
      default:
        return [IDENTITIES.includes(kind) ? TOPIC.identity(key) : TOPIC.everywhere];
    }
  }

  topicsOfNamespace(namespace: StoredObject | undefined): readonly string[] {
    if (namespace === undefined) return [];
    const labels = labelsOf(namespace);
    const selected = [...this.#selectors].filter(([, wanted]) => labelsMatch(wanted, labels));
    return [TOPIC.namespace(namespace.metadata.name), ...selected.map(([topic]) => topic)];
  }

  /** An item; undefined when there is none of this key. */
  item(key: string): PolicyItem | undefined {
    const [kind, name] = split(key);
    if (kind === 'Source') {
      const source = this.#whoHolds().source(name);
      return source === undefined ? undefined : sourceItem(name, source);
    }
    const object = this.#store.get(kind, name);
    if (object === undefined || !isSent(object)) return undefined;
    if (kind === 'Namespace') return namespaceItem(name, labelsOf(object));
    if (IDENTITIES.includes(kind)) return identityItem(object, this.#whoHolds().urisOf(key));
    if (kind !== 'Pod') return objectItem(object);
    const facts = podFacts(object);
    return facts === undefined ? undefined : podItem(object, facts, this.#registrations.forPod(facts.uid));
  }

  #selected(topic: string): readonly string[] {
    const wanted = this.#selectors.get(topic) ?? requirementsOf(topic);
    if (wanted === undefined) return [];
    return this.#store
      .list('Namespace')
      .filter((namespace) => labelsMatch(wanted, labelsOf(namespace)))
      .map(keyOf);
  }

  #whoHolds(): Holders {
    this.#holders ??= new Holders(this.#registrations.all(), ({ namespace, name, uid }) => {
      const pod = this.#store.get('Pod', `${namespace}/${name}`);
      return pod?.metadata.uid === uid ? podFacts(pod) : undefined;
    });
    return this.#holders;
  }
}

/** The text before the first slash, and what comes after it. */
function split(text: string): readonly [string, string] {
  const slash = text.indexOf('/');
  return slash < 0 ? [text, ''] : [text.slice(0, slash), text.slice(slash + 1)];
}

function labelsOf({ metadata }: StoredObject): Readonly<Record<string, string>> {
  return { ...metadata.labels, [NAME_LABEL]: metadata.name };
}

/** Undefined for another topic, and for a selector that cannot be read: its policy opens nothing. */
function requirementsOf(topic: string): readonly LabelRequirement[] | undefined {
  const selector = selectorOf(topic);
  if (selector === undefined) return undefined;
  const report = new ProblemReport();
  const requirements = readSelector(selector, 'namespaceSelector', report);
  return report.problems.length > 0 ? undefined : requirements;
}
