import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { spiffeId } from '../../identity/spiffe/id.js';
import { agentIdOf, nodeOfAgent } from './agent-id.js';

describe('the SPIFFE ID of an agent', () => {
  it('names its node, and the node is read from it', () => {
    const id = agentIdOf('example.org', 'ip-10-0-0-7.eu-west-1.compute.internal');
    expect(id?.uri).toBe('spiffe://example.org/signet/agent/ip-10-0-0-7.eu-west-1.compute.internal');
    expect(id === undefined ? '' : nodeOfAgent(id, 'example.org')).toBe(
      'ip-10-0-0-7.eu-west-1.compute.internal',
    );
  });

  it.each(['', 'a/b', '..', '.', 'A', 'a_b', '-a', 'a-', 'a..b', 'ä', 'a b', 'a%2fb', 'x'.repeat(254)])(
    'is never made of %j, which is no name of a node',
    (name) => {
      expect(agentIdOf('example.org', name)).toBeUndefined();
    },
  );

  it('is one to one with the name: no two nodes have the same, whatever the name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (name) => {
        const id = agentIdOf('example.org', name);
        return id === undefined || nodeOfAgent(id, 'example.org') === name;
      }),
    );
  });

  it.each([
    ['example.com', '/signet/agent/n1'],
    ['example.org', '/signet/agent'],
    ['example.org', '/signet/agent/n1/x'],
    ['example.org', '/signet/agent/N1'],
    ['example.org', '/signet/server'],
    ['example.org', '/ns/signet/agent/n1'],
    ['example.org', '/signet/agents/n1'],
  ])('is not found in spiffe://%s%s', (trustDomain, path) => {
    expect(nodeOfAgent(spiffeId(trustDomain, path), 'example.org')).toBeUndefined();
  });
});
