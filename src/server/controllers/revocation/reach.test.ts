import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { settle } from '../../../../test/support/fake-clock.js';
import type { AuthorityInfo } from '../../../identity/ca/certificate-authority.js';
import type { Registration } from '../../../identity/registration/registration.js';
import type { TrustBundle } from '../../../identity/spiffe/bundle.js';
import { parseSpiffeId } from '../../../identity/spiffe/id.js';
import { WatchedValue } from '../../../lib/watched.js';
import type { Revocation, RevokedSubject } from '../../../resources/revocation.js';
import type { PolicyItem, PolicyUpdate, RevocationMark } from '../../../rpc/node-api.js';
import { markedSource } from '../../marked-source.js';
import { stateStream, type StateSource } from '../../state-stream.js';
import { openRevocationProgress, type RevocationProgress } from './progress.js';
import { createRevocationReach } from './reach.js';
import { Revocations } from './revocations.js';

const APP = 'spiffe://example.org/ns/shop/sa/app';

const registration = (name: string, nodeName: string, id = APP): Registration => ({
  ...{ id: `${name}/shop/id`, nodeName, hint: '', revision: '1' },
  subject: { kind: 'pod', namespace: 'shop', name, uid: `uid-${name}` },
  spiffeId: parseSpiffeId(id),
  ...{ x509TtlSeconds: 3600, jwtTtlSeconds: 300, dnsNames: [], federatesWith: [], audiences: [] },
  identity: { kind: 'WorkloadIdentity', namespace: 'shop', name: 'id' },
});

const revocation = (name: string, subject: RevokedSubject): Revocation => ({
  apiVersion: 'signet.dev/v1alpha1',
  kind: 'Revocation',
  metadata: { name, uid: `r-${name}`, generation: 1 },
  spec: { subject, reason: 'stolen' },
});

/** A cluster of some nodes, each with an agent, and replicas that know the same revocations. */
function cluster(nodes: readonly string[], registrations: readonly Registration[] = []) {
  const inForce = new WatchedValue(new Revocations([]));
  const bundle = new WatchedValue<TrustBundle>({
    ...{ trustDomain: 'example.org', x509Authorities: [], jwtAuthorities: [], sequence: 1 },
  });
  const taints = new WatchedValue({ x509: [] as readonly string[], jwt: [] as readonly string[] });
  let authorities: readonly Pick<AuthorityInfo, 'id' | 'revoked'>[] = [];
  const replica = (epoch: string): RevocationProgress =>
    openRevocationProgress({
      ...{ epoch, inForce, hasAgent: (nodeName) => nodes.includes(nodeName) },
      ca: { bundle, taints, authorities: () => authorities as readonly AuthorityInfo[] },
    });
  const progress = replica('one');
  const reach = createRevocationReach({
    progress,
    agentNodes: () => nodes,
    registrations: () => registrations,
  });
  return {
    ...{ inForce, progress, reach, replica },
    revoke: (...all: readonly Revocation[]) => inForce.set(new Revocations(all)),
    authority(id: string, revoked: boolean) {
      authorities = [{ id, revoked }];
      bundle.set({ ...bundle.value, sequence: bundle.value.sequence + 1 });
    },
    said: (one: Revocation): string => {
      const { reached, total } = reach.of([one]).get(one.metadata.uid) ?? { reached: -1, total: -1 };
      return `${reached}/${total}`;
    },
  };
}

const item = (key: string): PolicyItem => ({ key, revision: '1', json: '{}' });

const serial = revocation('serial', { serialNumber: 'a1' });

describe('the reach of a Revocation', () => {
  it('counts agents that acknowledged after it came, and no others', () => {
    const { progress, revoke, said } = cluster(['n1', 'n2', 'n3']);
    progress.acknowledge('n1', progress.mark.value);
    const before = progress.mark.value;
    revoke(serial);
    progress.acknowledge('n2', before);
    expect(said(serial)).toBe('0/3');
    progress.acknowledge('n1', progress.mark.value);
    expect(said(serial)).toBe('1/3');
    // Neither an older word than the last, nor one of the future, nor one of another replica.
    progress.acknowledge('n1', before);
    progress.acknowledge('n2', { ...progress.mark.value, revision: progress.mark.value.revision + 1 });
    progress.acknowledge('n3', { ...progress.mark.value, epoch: 'two' });
    progress.acknowledge('elsewhere', progress.mark.value);
    expect(said(serial)).toBe('1/3');
  });

  it('is of the agents that may hold it: by pod and ID those of the nodes, by process every one', () => {
    const nodes = ['n1', 'n2', 'n3'];
    const process = { ...registration('p', ''), spiffeId: parseSpiffeId('spiffe://example.org/p') };
    const { progress, revoke, said } = cluster(nodes, [
      registration('a', 'n1'),
      registration('b', 'n2'),
      { ...process, subject: { kind: 'process', selector: { uid: 7 } } },
    ]);
    const all = {
      id: revocation('id', { spiffeID: APP }),
      pod: revocation('pod', { pod: { namespace: 'shop', name: 'a' } }),
      earlier: revocation('earlier', { pod: { namespace: 'shop', name: 'a', uid: 'another' } }),
      process: revocation('process', { spiffeID: 'spiffe://example.org/p' }),
    };
    revoke(...Object.values(all));
    progress.acknowledge('n1', progress.mark.value);
    progress.acknowledge('n3', progress.mark.value);
    expect(Object.values(all).map(said)).toEqual(['1/2', '1/1', '0/0', '2/3']);
  });

  it('begins for an authority when it is out of the bundle, not when it is to be', () => {
    const { progress, revoke, said, authority } = cluster(['n1']);
    authority('ca', false);
    const one = revocation('ca', { authorityID: 'ca' });
    revoke(one);
    progress.acknowledge('n1', progress.mark.value);
    expect(said(one)).toBe('0/1');
    authority('ca', true);
    expect(said(one)).toBe('0/1');
    progress.acknowledge('n1', progress.mark.value);
    expect(said(one)).toBe('1/1');
  });

  it('is whole over replicas, however agents moved and in whatever order their reports come', () => {
    const step = fc.record({
      act: fc.constantFrom('revoke' as const, 'acknowledge' as const, 'report' as const),
      node: fc.constantFrom('n1', 'n2', 'n3'),
      replica: fc.constantFrom(0, 1),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { progress, inForce, reach, replica } = cluster(['n1', 'n2', 'n3']);
        const replicas = [progress, replica('two')] as const;
        const made: Revocation[] = [];
        /** By Revocation: the nodes whose agent acknowledged when it was in force, to whomever. */
        const truth = new Map<string, Set<string>>();
        const report = (): void => {
          const { entries } = replicas[1];
          const items = [...entries.keys()].map((key) => entries.get(key)).filter((one) => one !== undefined);
          reach.reported('two', items.reverse());
        };
        for (const { act, node, replica: at } of steps) {
          if (act === 'report') report();
          else if (act === 'revoke') {
            made.push(revocation(String(made.length), { serialNumber: String(made.length) }));
            truth.set(`r-${made.length - 1}`, new Set());
            inForce.set(new Revocations(made));
          } else {
            replicas[at].acknowledge(node, replicas[at].mark.value);
            for (const { metadata } of made) truth.get(metadata.uid)?.add(node);
          }
          for (const [uid, { reached }] of reach.of(made))
            expect(reached).toBeLessThanOrEqual(truth.get(uid)?.size ?? 0);
        }
        report();
        for (const [uid, { reached }] of reach.of(made))
          expect([uid, reached]).toEqual([uid, truth.get(uid)?.size]);
      }),
    );
  });
});

describe('a stream with marks', () => {
  it('tells a new mark by itself, after the state was told, and never one that is ahead of what it said', async () => {
    const mark = new WatchedValue<RevocationMark>({ epoch: 'one', revision: 0 });
    const items: string[] = [];
    const wakes = new Set<() => void>();
    let started = false;
    const source: StateSource<PolicyUpdate> = {
      take: () =>
        !started
          ? undefined
          : items.length === 0
            ? undefined
            : { snapshot: false, upserts: items.splice(0).map(item), removed: [] },
      subscribe(wake: () => void) {
        wakes.add(wake);
        return () => wakes.delete(wake);
      },
    };
    const stop = new AbortController();
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { upserts, revocations } of stateStream(
        () => markedSource(source, mark, { snapshot: false, upserts: [], removed: [] }),
        stop.signal,
      ))
        seen.push(`${upserts.map(({ key }) => key).join()}@${revocations?.revision}`);
    })();
    await settle();
    mark.set({ epoch: 'one', revision: 1 });
    await settle();
    expect(seen).toEqual([]);
    started = true;
    items.push('a');
    for (const wake of wakes) wake();
    await settle();
    mark.set({ epoch: 'one', revision: 2 });
    await settle();
    items.push('b');
    mark.set({ epoch: 'one', revision: 3 });
    await settle();
    expect(seen).toEqual(['a@1', '@2', 'b@3']);
    stop.abort();
    await reading;
    expect(mark.watchers + wakes.size).toBe(0);
  });
});
