import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { readProxySettings, type ProxyAnnotations, type ProxySettings } from './proxy-settings.js';

const SILENT: ProxyAnnotations = {
  ...{ wanted: undefined, inbound: undefined, outbound: undefined },
  ...{ authorization: undefined, capture: undefined, rewriteProbes: undefined },
};

function read(
  inbound: string | undefined,
  outbound?: string,
  authorization?: string,
  wanted: string | undefined = 'true',
): { readonly settings: ProxySettings | undefined; readonly problems: readonly string[] } {
  const problems: string[] = [];
  const settings = readProxySettings(
    { ...SILENT, wanted, inbound, outbound, authorization },
    (name, message) => problems.push(`${name} ${message}`),
  );
  return { settings, problems };
}

describe('what is asked of a proxy', () => {
  it('is ports of the pod, and where ports on 127.0.0.1 lead', () => {
    const asked = read(
      '8443:8080, 9443:9000/http2,5432:5432/tcp',
      '9001=payments.shop.svc:8443=spiffe://example.org/ns/shop/sa/payments,9002=[2001:db8::1]:1=spiffe://example.org',
    );
    expect(asked).toEqual({
      problems: [],
      settings: {
        ...{ authorization: 'filters', capture: false, rewriteProbes: true },
        inbound: [
          { listen: 8443, program: 8080, protocol: 'http' },
          { listen: 9443, program: 9000, protocol: 'http2' },
          { listen: 5432, program: 5432, protocol: 'tcp' },
        ],
        outbound: [
          {
            ...{ listen: 9001, host: 'payments.shop.svc', port: 8443 },
            peer: { kind: 'id', uri: 'spiffe://example.org/ns/shop/sa/payments' },
          },
          { listen: 9002, host: '2001:db8::1', port: 1, peer: { kind: 'trust-domain', name: 'example.org' } },
        ],
      },
    });
    expect(read('8080:8080', undefined, 'service').settings?.authorization).toBe('service');
    expect(read(undefined, undefined, undefined, 'false')).toEqual({ settings: undefined, problems: [] });
  });

  it.each([
    ['8443', undefined, /write the port of the pod, a colon/],
    ['8443:8080/udp', undefined, /8443:8080\/udp/],
    ['0:8080', undefined, /0 is no port/],
    ['08443:8080', undefined, /08443 is no port/],
    ['65536:1', undefined, /65536 is no port/],
    ['15621:8080', undefined, /the proxy's own port/],
    ['8443:1,8443:2', undefined, /port 8443 twice/],
    ['8443:8080,8080:9000', undefined, /uses port 8080 for the pod and for another program/],
    ['8443:9001', '9001=a:1=spiffe://a.test', /uses port 9001, which is the program's own/],
    [undefined, '9001=a:1=spiffe://a.test,9001=b:1=spiffe://a.test', /port 9001 twice/],
    [undefined, '9001=a.svc:1', /does not say who is there; add =<SPIFFE ID>/],
    [undefined, '9001=a_b:1=spiffe://a.test', /write a port on 127\.0\.0\.1/],
    [undefined, '9001=1.2.3:1=spiffe://a.test', /write a port/],
    [undefined, '9001=[::g]:1=spiffe://a.test', /write a port/],
    [undefined, '9001=a:1=spiffe://A.test/x', /whose peer cannot be read/],
    [undefined, '9001=a:1=https://a.test', /whose peer cannot be read/],
    ['1:1,2:2,3:3,4:4,5:5,6:6,7:7,8:8,9:9', undefined, /has 9 entries; give at most 8/],
  ])('is refused when it is %s and %s', (inbound, outbound, problem) => {
    expect(read(inbound, outbound).problems).toEqual([expect.stringMatching(problem)]);
  });

  it('is refused when the authorization service could not know what the port is', () => {
    expect(read('8443:8080', undefined, 'service').problems).toEqual([
      expect.stringMatching(/8443:8080\/http; use the same/),
    ]);
    expect(read('80:80/tcp', undefined, 'service').problems).toHaveLength(1);
    expect(read('80:80', undefined, 'no').problems).toEqual([
      expect.stringMatching(/must be "filters" or "service"/),
    ]);
  });

  it('is refused when it is lost for want of a proxy', () => {
    const problems: string[] = [];
    readProxySettings({ ...SILENT, inbound: '1:1', capture: 'true', rewriteProbes: 'false' }, (name) =>
      problems.push(name),
    );
    expect(problems).toEqual([
      'signet.dev/proxy-inbound',
      'signet.dev/proxy-capture',
      'signet.dev/rewrite-probes',
    ]);
  });

  it('holds nothing that could be more than text in a configuration, whatever is written', () => {
    const odd = fc.string({ unit: fc.constantFrom(...'0189:=,/.-$(){}"\\[] aZé'.split('')), maxLength: 40 });
    fc.assert(
      fc.property(odd, odd, (inbound, outbound) => {
        const { settings } = read(inbound, outbound);
        expect(JSON.stringify(settings ?? {})).not.toMatch(/[$\\(]/);
      }),
      { numRuns: 2000 },
    );
  });
});
