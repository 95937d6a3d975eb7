import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Metrics } from '../operate/metrics/metrics.js';
import type { NodeApi, PolicyUpdate } from '../rpc/node-api.js';

/** What agents do at this replica, counted. */
export interface NodeMetrics {
  /** The same API, counted. */
  api(nodeName: string, api: NodeApi): NodeApi;
  /** The same attestation, counted. */
  attest<Token, Agent>(attest: (token: Token) => Promise<Agent>): (token: Token) => Promise<Agent>;
  /** Nodes whose agent follows this replica now. */
  readonly nodes: readonly string[];
}

export function createNodeMetrics(metrics: Metrics, clock: Clock): NodeMetrics {
  const following = new Map<string, number>();
  metrics.readOne('agents', () => following.size);

  const follow = async function* <T>(nodeName: string, updates: AsyncIterable<T>): AsyncIterable<T> {
    following.set(nodeName, (following.get(nodeName) ?? 0) + 1);
    try {
      yield* updates;
    } finally {
      const left = (following.get(nodeName) ?? 0) - 1;
      if (left > 0) following.set(nodeName, left);
      else following.delete(nodeName);
    }
  };
  const sent = async function* (updates: AsyncIterable<PolicyUpdate>): AsyncIterable<PolicyUpdate> {
    for await (const update of updates) {
      const { upserts, removed } = update;
      metrics.count('policyUpdates', { kind: update.snapshot ? 'snapshot' : 'change' });
      metrics.count('policyItems', {}, upserts.length + removed.length);
      metrics.count(
        'policyCharacters',
        {},
        upserts.reduce((sum, { json }) => sum + json.length, 0),
      );
      yield update;
    }
  };
  const signing = async <T extends { readonly ok: boolean; readonly code?: string }>(
    kind: 'x509' | 'jwt',
    sign: () => Promise<readonly T[]>,
  ): Promise<readonly T[]> => {
    const began = clock.monotonic();
    const results = await sign();
    metrics.observe('signingSeconds', { kind }, (clock.monotonic() - began) / 1000);
    for (const { ok, code } of results)
      metrics.count('signatures', { kind, result: ok ? 'success' : (code ?? 'Internal') });
    return results;
  };
  return {
    api: (nodeName, { policies, ...api }) => ({
      bundles: (signal) => api.bundles(signal),
      explain: (subject, signal) => api.explain?.(subject, signal) ?? Promise.resolve(''),
      sync: (signal) => follow(nodeName, api.sync(signal)),
      ...(policies === undefined ? {} : { policies: (held, signal) => sent(policies(held, signal)) }),
      signX509: (...asked) => signing('x509', () => api.signX509(...asked)),
      signJwt: (...asked) => signing('jwt', () => api.signJwt(...asked)),
    }),
    attest: (attest) => async (token) => {
      try {
        const agent = await attest(token);
        metrics.count('attestations', { result: 'success' });
        return agent;
      } catch (thrown) {
        metrics.count('attestations', { result: SignetError.from(thrown).code });
        throw thrown;
      }
    },
    get nodes() {
      return [...following.keys()].sort();
    },
  };
}
