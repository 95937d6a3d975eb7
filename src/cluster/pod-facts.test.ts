import { describe, expect, it } from '@jest/globals';

import { aPodObject } from '../../test/support/identities.js';
import { podFacts } from './pod-facts.js';

describe('the facts of a pod', () => {
  it('are read from all of its containers', () => {
    const pod = aPodObject('pay', {
      initContainers: [{ image: 'init' }],
      containers: [{ image: 'main' }],
      ephemeralContainers: [{ image: 'debug', securityContext: { privileged: true } }],
    });
    expect(podFacts({ ...pod, ...{ status: { phase: 'Running', podIP: '10.0.0.7' } } })).toEqual({
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
    });
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
