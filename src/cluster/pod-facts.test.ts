import { describe, expect, it } from '@jest/globals';

import { aPodObject } from '../../test/support/identities.js';
import { podFacts } from './pod-facts.js';

describe('the facts of a pod', () => {
  it('are read from all of its containers', () => {
    const pod = aPodObject('pay', {
      initContainers: [{ name: 'first', image: 'init' }],
      containers: [{ name: 'app', image: 'main' }],
      ephemeralContainers: [{ name: 'look', image: 'debug', securityContext: { privileged: true } }],
    });
    const started = (name: string): object => ({ name, containerID: `containerd://${name}`, imageID: 'x' });
    const status = {
      ...{ phase: 'Running', podIP: '10.0.0.7' },
      initContainerStatuses: [started('first')],
      containerStatuses: [started('app'), { name: 'waits', containerID: '' }],
      ephemeralContainerStatuses: [started('look')],
    };
    expect(podFacts({ ...pod, ...{ status } })).toEqual({
      namespace: 'shop',
      name: 'pay',
      uid: 'uid-pay',
      serviceAccount: 'pay',
      labels: { app: 'pay' },
      annotations: {},
      nodeName: 'node-1',
      images: ['init', 'main', 'debug'],
      privileged: true,
      ip: '10.0.0.7',
      containerNames: ['first', 'app', 'look'],
      containers: ['app', 'first', 'look'].map(started),
    });
  });

  it('say of a mirror by which UID its node knows the static pod, where that is one of no other pod', () => {
    const hash = 'a'.repeat(32);
    const uidOf = (annotations: Readonly<Record<string, string>>): string | undefined => {
      const named: Record<string, string> = {};
      for (const [name, value] of Object.entries(annotations)) named[`kubernetes.io/config.${name}`] = value;
      return podFacts(aPodObject('pay', {}, { annotations: named }))?.staticUid;
    };
    expect(uidOf({ mirror: hash, hash, source: 'file' })).toBe(hash);
    expect(uidOf({ hash, source: 'file' })).toBeUndefined();
    const uid = '0a1b2c3d-0000-4000-8000-00000000000a';
    for (const odd of [
      { mirror: hash, hash, source: 'api' },
      { mirror: hash, hash },
      { mirror: hash, hash: 'b'.repeat(32), source: 'file' },
      { mirror: uid, hash: uid, source: 'file' },
    ])
      expect(uidOf(odd)).toBe('');
  });

  it('have the defaults of Kubernetes', () => {
    expect(
      podFacts(
        aPodObject('pay', { serviceAccountName: undefined, nodeName: undefined, containers: 'broken' }),
      ),
    ).toMatchObject({
      serviceAccount: 'default',
      nodeName: '',
      images: [],
      privileged: false,
    });
  });

  it.each(['Succeeded', 'Failed'])('are none for a pod that has ended: %s', (phase) => {
    expect(podFacts({ ...aPodObject('pay'), ...{ status: { phase } } })).toBeUndefined();
  });
});
