import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { PROBES, readNewPod, type Fields } from './pod.js';
import { probeCluster } from './proxy-probe-checks.js';
import { planProbes, type ProbePlan } from './proxy-probes.js';
import type { ProxySettings } from './proxy-settings.js';

const proxy: ProxySettings = {
  inbound: [
    { listen: 8080, program: 8080, protocol: 'http' },
    { listen: 8443, program: 9000, protocol: 'http2' },
  ],
  ...{ outbound: [], authorization: 'filters', capture: true, rewriteProbes: true },
};
const planOf = (container: Fields, by = proxy): ProbePlan =>
  planProbes(readNewPod({ spec: { containers: [{ name: 'app', ...container }] } }), by);

describe('probes of ports behind the proxy', () => {
  it('ask the proxy, which asks the same of the program; all else of them stays', () => {
    const plan = planOf({
      ports: [{ name: 'web', containerPort: 8080 }],
      livenessProbe: {
        httpGet: {
          ...{ path: '/live?deep=1#x', port: 'web', scheme: 'HTTP' },
          httpHeaders: [
            { name: 'Host', value: 'shop.test' },
            { name: 'X-A', value: '1%' },
            { name: 'X-A', value: '$(HOME)' },
          ],
        },
        ...{ periodSeconds: 7, timeoutSeconds: 3, failureThreshold: 5, initialDelaySeconds: 2 },
      },
      readinessProbe: { grpc: { port: 9000, service: 'shop' } },
      startupProbe: { tcpSocket: { port: 8443 }, periodSeconds: 1 },
    });
    expect(plan.rewritten).toEqual([
      {
        path: '/spec/containers/0/livenessProbe',
        value: {
          httpGet: { path: '/probes/app/livenessProbe', port: 15621, scheme: 'HTTP' },
          ...{ periodSeconds: 7, timeoutSeconds: 3, failureThreshold: 5, initialDelaySeconds: 2 },
        },
      },
      {
        path: '/spec/containers/0/readinessProbe',
        value: { httpGet: { path: '/probes/app/readinessProbe', port: 15621, scheme: 'HTTP' } },
      },
      {
        path: '/spec/containers/0/startupProbe',
        value: {
          httpGet: { path: '/probes/app/startupProbe', port: 15621, scheme: 'HTTP' },
          periodSeconds: 1,
        },
      },
    ]);
    expect(plan.checks).toEqual([
      {
        ...{ container: 'app', probe: 'livenessProbe', port: 8080, interval: 3, timeout: 3 },
        question: {
          ...{ kind: 'http', tls: false, path: '/live?deep=1', host: 'shop.test' },
          headers: [
            ['User-Agent', 'kube-probe/signet'],
            ['Accept', '*/*'],
            ['X-A', '1%'],
            ['X-A', '$(HOME)'],
          ],
        },
      },
      {
        ...{ container: 'app', probe: 'readinessProbe', port: 9000, interval: 5, timeout: 1 },
        question: { kind: 'grpc', service: 'shop' },
      },
      {
        ...{ container: 'app', probe: 'startupProbe', port: 9000, interval: 1, timeout: 1 },
        question: { kind: 'tcp' },
      },
    ]);
    const [live] = plan.checks;
    const text = live === undefined ? '' : JSON.stringify(probeCluster(live));
    expect(text).toContain('"value":"1%%"');
    expect(text).toContain('"value":"$$(HOME)"');
  });

  it.each<[string, Fields]>([
    ['of another port', { httpGet: { path: '/', port: 7000 } }],
    ['of another host', { httpGet: { path: '/', port: 8080, host: 'other.test' } }],
    ['of a port with a name that nobody has', { tcpSocket: { port: 'web' } }],
    ['by a program', { exec: { command: ['true'] } }],
    ['of nothing', {}],
  ])('stay as they are when they are %s', (_, livenessProbe) => {
    expect(planOf({ livenessProbe })).toEqual({ rewritten: [], checks: [], problems: [], warnings: [] });
  });

  it('stay as they are when the pod says so', () => {
    const livenessProbe = { httpGet: { path: '/', port: 8080 } };
    expect(planOf({ livenessProbe }, { ...proxy, rewriteProbes: false }).rewritten).toEqual([]);
  });

  it('are refused when no request could be as they say', () => {
    const httpGet = { port: 8080, httpHeaders: [{ name: 'X', value: 'a\nb' }] };
    const plan = planOf({ livenessProbe: { httpGet }, startupProbe: { grpc: { port: 8080, service: 'ä' } } });
    expect(plan.problems).toEqual([
      { field: 'spec.containers[0].livenessProbe', message: expect.stringMatching(/header "X"/) },
      { field: 'spec.containers[0].startupProbe', message: expect.stringMatching(/only ASCII/) },
    ]);
  });

  it('are not those of a lifecycle, of which whoever made the pod is warned', () => {
    const { warnings } = planOf({ lifecycle: { preStop: { httpGet: { port: 8080 } } } });
    expect(warnings).toEqual([expect.stringMatching(/lifecycle\.preStop\.httpGet: .*use exec/)]);
  });

  it('are made of whatever is written, in words that mean themselves in the configuration', () => {
    const action = fc.record(
      {
        port: fc.constantFrom<unknown>(8080, 9000, 8443, '8080', 'web', 7000, null),
        path: fc.string({ unit: fc.constantFrom(...'/a$()%#? ä\n"'.split('')) }),
        service: fc.string(),
        scheme: fc.constantFrom('HTTP', 'HTTPS'),
        httpHeaders: fc.array(fc.record({ name: fc.constantFrom('Host', 'X-A', 'a b'), value: fc.string() })),
      },
      { requiredKeys: [] },
    );
    const probe = fc.oneof(
      fc.record({ httpGet: action }),
      fc.record({ tcpSocket: action }),
      fc.record({ grpc: action }),
      fc.jsonValue(),
    );
    const container = fc.record(Object.fromEntries(PROBES.map((kind) => [kind, probe])), {
      requiredKeys: [],
    });
    let asked = 0;
    fc.assert(
      fc.property(container, (fields) => {
        const { rewritten, checks, problems } = planOf(fields);
        expect(rewritten).toHaveLength(checks.length);
        expect(checks.length + problems.length).toBeLessThanOrEqual(PROBES.length);
        for (const check of checks) {
          asked += 1;
          const text = JSON.stringify(probeCluster(check));
          expect(text).toMatch(/^[ -~]*$/);
          // Pairs of dollars are for the kubelet; a single one could begin a variable.
          expect(text.replaceAll('$$', '')).not.toContain('$');
          if (check.question.kind === 'http') expect(check.question.path).toMatch(/^\/[!-"$-~]*$/);
        }
      }),
    );
    expect(asked).toBeGreaterThan(30);
  });
});
