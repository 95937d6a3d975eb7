import { describe, expect, it } from '@jest/globals';
import { EndpointAddressError, parseEndpointAddress } from './endpoint-address.js';

describe('parseEndpointAddress (SPIFFE Workload Endpoint §4)', () => {
  it.each([
    ['unix:///run/signet/agent.sock', { kind: 'unix', path: '/run/signet/agent.sock' }],
    ['unix:/run/signet/agent.sock', { kind: 'unix', path: '/run/signet/agent.sock' }],
    ['UNIX:///tmp/a', { kind: 'unix', path: '/tmp/a' }],
    ['unix:///tmp/with%20space', { kind: 'unix', path: '/tmp/with space' }],
    ['tcp://127.0.0.1:8000', { kind: 'tcp', host: '127.0.0.1', port: 8000 }],
    ['tcp://1.2.3.4:5', { kind: 'tcp', host: '1.2.3.4', port: 5 }],
    ['tcp://[::1]:8000', { kind: 'tcp', host: '::1', port: 8000 }],
  ])('accepts %s', (text, address) => {
    expect(parseEndpointAddress(text)).toEqual(address);
  });

  it.each([
    '',
    'blah',
    '/run/agent.sock',
    'http:///run/agent.sock',
    'unix:',
    'unix://',
    'unix:///',
    'unix:opaque',
    'unix://relative/path',
    'unix://host/path',
    'unix:////too/many',
    'unix://user:pass@/path',
    'unix:///path?query',
    'unix:///path#fragment',
    'unix:///path%00end',
    'unix:///path%zz',
    `unix:///${'a'.repeat(107)}`,
    'tcp:',
    'tcp://',
    'tcp:1.2.3.4:5',
    'tcp:///test',
    'tcp://1.2.3.4',
    'tcp://1.2.3.4:',
    'tcp://1.2.3.4:0',
    'tcp://1.2.3.4:65536',
    'tcp://1.2.3.4:5/path',
    'tcp://1.2.3.4:5/',
    'tcp://1.2.3.4:5?query',
    'tcp://1.2.3.4:5#fragment',
    'tcp://john:doe@1.2.3.4:5',
    'tcp://localhost:8000',
    'tcp://1.2.3:80',
    'tcp://1.2.3.256:80',
    'tcp://01.2.3.4:80',
    'tcp://[::g]:80',
    'tcp://::1:80',
    'x'.repeat(5000),
  ])('refuses %j', (text) => {
    expect(() => parseEndpointAddress(text)).toThrow(EndpointAddressError);
  });

  it('accepts the longest path that a socket can have', () => {
    const path = `/${'a'.repeat(106)}`;
    expect(parseEndpointAddress(`unix://${path}`)).toEqual({ kind: 'unix', path });
  });
});
