import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { applyPatch } from '../../../test/support/apply-patch.js';
import { planInjection, checkVolumes, type InjectionContext, type InjectionPlan } from './plan.js';
import type { Fields } from './pod.js';

const context: InjectionContext = {
  namespace: 'shop',
  skippedNamespaces: new Set(['kube-system', 'signet-system']),
  proxyImage: 'registry.test/envoy:1',
  captureImage: 'registry.test/signet:1',
  readVolume: ({ socket = 'api.sock', files = '' }) =>
    files.includes('?') ? { problem: `volume attribute files has "${files}"` } : { socket },
};

const pod = (extra: Fields = {}, metadata: Fields = {}): Fields => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { generateName: 'web-', ...metadata },
  spec: { containers: [{ name: 'app', image: 'app:1' }], ...extra },
});
const annotated = (annotations: Readonly<Record<string, string>>): Fields => pod({}, { annotations });

/** The pod as the plan makes it. */
function injected(object: Fields, by = context): Fields {
  const plan = planInjection(object, by);
  if (plan.do === 'refuse') throw new Error(JSON.stringify(plan.problems));
  return plan.do === 'nothing' ? object : (applyPatch(object, plan.patch) as Fields);
}
const specOf = (object: Fields): Fields => object['spec'] as Fields;
const problemsOf = (plan: InjectionPlan): readonly string[] =>
  plan.do === 'refuse' ? plan.problems.map(({ field, message }) => `${field}: ${message}`) : [];

describe('a pod that asks for a proxy and can have none', () => {
  it.each([
    ['in the network of its node', { hostNetwork: true }],
    ['on Windows', { os: { name: 'windows' } }],
  ])('is refused, since it would be open to everybody: %s', (_, spec) => {
    const annotations = { 'signet.dev/inject-proxy': 'true', 'signet.dev/proxy-inbound': '8443:8080' };
    expect(problemsOf(planInjection(pod(spec, { annotations }), context)).join()).toMatch(
      /^metadata\.annotations\["signet\.dev\/inject-proxy"\]: asks for a proxy, and this pod can have none/,
    );
    const isMeant = { annotations, labels: { 'signet.dev/inject': 'false' } };
    for (const metadata of [isMeant, { annotations: { 'signet.dev/inject-proxy': 'false' } }])
      expect(planInjection(pod(spec, metadata), context).do).toBe('nothing');
  });
});

describe('a pod that asks for captured ports', () => {
  const asking = (image: string | undefined, more: Readonly<Record<string, string>> = {}): InjectionPlan =>
    planInjection(
      pod(
        { initContainers: [{ name: 'init', image: 'i:1' }], securityContext: { runAsNonRoot: true } },
        {
          annotations: {
            'signet.dev/inject-proxy': 'true',
            'signet.dev/proxy-inbound': '8080:8080,8443:9000/tcp',
            'signet.dev/proxy-capture': 'true',
            ...more,
          },
        },
      ),
      { ...context, captureImage: image },
    );

  it('has them captured before anything else runs, by a container with that right alone', () => {
    const plan = asking('signet:1');
    const after =
      plan.do === 'patch' ? plan.patch.filter(({ path }) => path.startsWith('/spec/initContainers/')) : [];
    expect(after.at(-2)).toEqual({
      ...{ op: 'add', path: '/spec/initContainers/0' },
      value: expect.objectContaining({
        ...{ name: 'signet-capture', image: 'signet:1' },
        args: ['proxy-capture', '--redirect=8080:15630', '--redirect=8443:15631', '--close=9000'],
        securityContext: {
          ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
          capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
          ...{ runAsNonRoot: false, runAsUser: 0, runAsGroup: 0 },
          seccompProfile: { type: 'RuntimeDefault' },
        },
      }),
    });
    expect(after.at(-1)).toMatchObject({
      path: '/spec/initContainers/1',
      value: {
        name: 'signet-proxy',
        ports: [{ containerPort: 15630 }, { containerPort: 15631 }, { containerPort: 15621 }],
      },
    });
  });

  it('is refused where nobody offers it, and where there is nothing to capture', () => {
    expect(problemsOf(asking(undefined))).toEqual([expect.stringMatching(/set injector\.capture\.enabled/)]);
    const [only] = problemsOf(
      planInjection(
        annotated({
          'signet.dev/inject-proxy': 'true',
          'signet.dev/proxy-capture': 'true',
          'signet.dev/proxy-outbound': '9001=a:1=spiffe://a.test',
        }),
        context,
      ),
    );
    expect(only).toMatch(/proxy-capture"\]: has nothing to capture/);
    expect(problemsOf(asking('s', { 'signet.dev/proxy-inbound': '8080:15630' }))).toEqual([
      expect.stringMatching(/15630 is the proxy's own port/),
    ]);
  });
});

describe('a pod that asks for an identity', () => {
  it('gets a volume, sees it in each container, is told where the socket is, and waits for it', () => {
    const object = pod({
      initContainers: [{ name: 'init', image: 'i:1', env: [{ name: 'A', value: 'b' }] }],
    });
    expect(specOf(injected(object))).toEqual({
      initContainers: [
        {
          ...{ name: 'init', image: 'i:1' },
          env: [
            { name: 'A', value: 'b' },
            { name: 'SPIFFE_ENDPOINT_SOCKET', value: 'unix:///run/spiffe/api.sock' },
          ],
          volumeMounts: [{ name: 'signet', mountPath: '/run/spiffe', readOnly: true }],
        },
      ],
      containers: [
        {
          ...{ name: 'app', image: 'app:1' },
          env: [{ name: 'SPIFFE_ENDPOINT_SOCKET', value: 'unix:///run/spiffe/api.sock' }],
          volumeMounts: [{ name: 'signet', mountPath: '/run/spiffe', readOnly: true }],
        },
      ],
      volumes: [{ name: 'signet', csi: { driver: 'csi.signet.dev', readOnly: true } }],
      readinessGates: [{ conditionType: 'signet.dev/identity' }],
    });
  });

  it('gets files and another place if it asks for them', () => {
    const spec = specOf(
      injected(
        annotated({ 'signet.dev/inject-files': 'pem,jks', 'signet.dev/inject-mount-path': '/var/id' }),
      ),
    );
    expect(spec['volumes']).toEqual([
      {
        name: 'signet',
        csi: { driver: 'csi.signet.dev', readOnly: true, volumeAttributes: { files: 'pem,jks' } },
      },
    ]);
    expect(JSON.stringify(spec['containers'])).toContain('unix:///var/id/api.sock');
  });

  it('keeps what it says itself', () => {
    const mounted = { name: 'signet', mountPath: '/id/' };
    const mine = { name: 'SPIFFE_ENDPOINT_SOCKET', value: 'unix:///mine' };
    const spec = specOf(
      injected(
        pod({
          volumes: [
            { name: 'signet', csi: { driver: 'csi.signet.dev', volumeAttributes: { socket: 'socket' } } },
          ],
          containers: [
            { name: 'a', volumeMounts: [mounted] },
            { name: 'b', env: [mine] },
            { name: 'c', env: [mine], volumeMounts: [{ name: 'data', mountPath: '/run/spiffe' }] },
            { name: 'd', volumeMounts: [{ ...mounted, subPath: 'socket' }] },
          ],
        }),
      ),
    );
    expect(spec['volumes']).toHaveLength(1);
    expect(spec['containers']).toEqual([
      {
        ...{ name: 'a', volumeMounts: [mounted] },
        env: [{ name: 'SPIFFE_ENDPOINT_SOCKET', value: 'unix:///id/socket' }],
      },
      {
        ...{ name: 'b', env: [mine] },
        volumeMounts: [{ name: 'signet', mountPath: '/run/spiffe', readOnly: true }],
      },
      { name: 'c', env: [mine], volumeMounts: [{ name: 'data', mountPath: '/run/spiffe' }] },
      { name: 'd', volumeMounts: [{ ...mounted, subPath: 'socket' }] },
    ]);
  });

  it('is left as it is, but for the gate, when it has a volume of ours under another name', () => {
    const byHand = pod({ volumes: [{ name: 'mine', csi: { driver: 'csi.signet.dev' } }] });
    expect(specOf(injected(byHand))).toEqual({
      ...specOf(byHand),
      readinessGates: [{ conditionType: 'signet.dev/identity' }],
    });
  });

  it('is refused, with all that is wrong and how to mend it', () => {
    const plan = planInjection(
      annotated({
        'signet.dev/inject-file': 'pem',
        'signet.dev/inject-files': 'what?',
        'signet.dev/inject-mount-path': '../etc',
        'signet.dev/inject-proxy': 'yes',
      }),
      context,
    );
    expect(problemsOf(plan)).toEqual([
      expect.stringMatching(
        /inject-file"\]: is no annotation of Signet's; did you mean signet\.dev\/inject-files\?/,
      ),
      expect.stringMatching(/inject-mount-path"\]: is "\.\.\/etc"; give an absolute path/),
      expect.stringMatching(/inject-proxy"\]: is "yes"; it must be "true" or "false"/),
      expect.stringMatching(/inject-proxy"\]: asks for a proxy that has nothing to do; say which ports/),
      expect.stringMatching(/inject-files"\]: volume attribute files has "what\?"/),
    ]);
  });

  it.each([
    [
      'a volume of the name that is something else',
      { volumes: [{ name: 'signet', emptyDir: {} }] },
      /spec\.volumes\[0\]\.name: .*give it another name/,
    ],
    [
      'another volume at the place',
      { containers: [{ name: 'a', volumeMounts: [{ name: 'x', mountPath: '/run//spiffe/' }] }] },
      /spec\.containers\[0\]\.volumeMounts: container "a" has volume "x" at .* choose another place/,
    ],
    [
      'another volume below the place',
      { initContainers: [{ name: 'a', volumeMounts: [{ name: 'x', mountPath: '/run/spiffe/x' }] }] },
      /spec\.initContainers\[0\]\.volumeMounts/,
    ],
  ])('is refused for %s', (_, spec, problem) => {
    expect(problemsOf(planInjection(pod(spec), context))).toEqual([expect.stringMatching(problem)]);
  });

  it('is refused for a label that is neither yes nor no', () => {
    const plan = planInjection(pod({}, { labels: { 'signet.dev/inject': 'no' } }), context);
    expect(problemsOf(plan)).toEqual([expect.stringMatching(/is "no"; it must be "true" or "false"/)]);
  });

  it.each([
    ['in a namespace of Signet’s', pod(), { ...context, namespace: 'signet-system' }, 0],
    ['that is the kubelet’s', pod({}, { annotations: { 'kubernetes.io/config.mirror': 'x' } }), context, 0],
    ['that wants none', pod({}, { labels: { 'signet.dev/inject': 'false' } }), context, 0],
    ['in the network of its node', pod({ hostNetwork: true }), context, 1],
    ['on Windows', pod({ os: { name: 'windows' } }), context, 1],
  ])('is skipped when it is one %s', (_, object, by, warnings) => {
    const plan = planInjection(object, by);
    expect(plan).toMatchObject({ do: 'nothing' });
    expect(plan.do === 'nothing' && plan.warnings).toHaveLength(warnings);
  });

  it('is warned of attributes that the agent will refuse', () => {
    const volumes = [
      { name: 'x', csi: { driver: 'csi.signet.dev', volumeAttributes: { files: '?' } } },
      { name: 'y', csi: { driver: 'other', volumeAttributes: { files: '?' } } },
    ];
    expect(checkVolumes(pod({ volumes }), context)).toEqual([
      expect.stringMatching(/^spec\.volumes\[0\]\.csi\.volumeAttributes: volume attribute files/),
    ]);
  });

  it('is the same after a second round, whatever it was, and loses nothing', () => {
    const names = fc.constantFrom('signet', 'data', 'spiffe');
    const mount = fc.record({
      name: names,
      mountPath: fc.constantFrom('/run/spiffe', '/data', '/id', '/run'),
    });
    const container = fc.record(
      {
        name: fc.constantFrom('a', 'b', 'c'),
        volumeMounts: fc.uniqueArray(mount, { maxLength: 2, selector: ({ mountPath }) => mountPath }),
        ports: fc.subarray([{ name: 'http', containerPort: 8080 }]),
        livenessProbe: fc.oneof(
          fc.record({ exec: fc.constant({ command: ['true'] }), periodSeconds: fc.nat(20) }),
          fc.record({
            httpGet: fc.record({ path: fc.string(), port: fc.constantFrom(8080, 'http', 8443, 7000) }),
            timeoutSeconds: fc.nat(5),
          }),
          fc.record({ tcpSocket: fc.record({ port: fc.constantFrom(9001, 7000) }) }),
        ),
        env: fc.subarray([
          { name: 'A', value: '1' },
          { name: 'SPIFFE_ENDPOINT_SOCKET', value: 'unix:///x' },
        ]),
      },
      { requiredKeys: ['name'] },
    );
    const volume = fc.oneof(
      fc.record({ name: names, emptyDir: fc.constant({}) }),
      fc.record({ name: names, csi: fc.constant({ driver: 'csi.signet.dev' }) }),
    );
    const spec = fc.record(
      {
        containers: fc.array(container, { minLength: 1, maxLength: 3 }),
        initContainers: fc.array(container, { maxLength: 2 }),
        volumes: fc.uniqueArray(volume, { maxLength: 3, selector: ({ name }) => name }),
        readinessGates: fc.subarray([{ conditionType: 'x' }, { conditionType: 'signet.dev/identity' }]),
      },
      { requiredKeys: ['containers'] },
    );
    const annotations = fc.record(
      {
        'signet.dev/inject-mount-path': fc.constantFrom('/run/spiffe', '/id', '/other'),
        'signet.dev/inject-proxy': fc.constant('true'),
        'signet.dev/proxy-inbound': fc.constantFrom('8443:8080', '8080:8080/http2,9000:9001/tcp'),
        'signet.dev/proxy-capture': fc.constantFrom('true', 'false'),
      },
      { requiredKeys: ['signet.dev/proxy-inbound', 'signet.dev/inject-proxy'] },
    );
    let patched = 0;
    fc.assert(
      fc.property(spec, fc.option(annotations, { nil: {} }), (of, notes) => {
        const object = pod(of, { annotations: notes });
        const plan = planInjection(object, context);
        if (plan.do !== 'patch') return;
        patched += 1;
        const after = applyPatch(object, plan.patch) as Fields;
        expect(planInjection(after, context)).toMatchObject({ do: 'nothing' });
        expect(isWithin(withoutProbes(object), withoutProbes(after))).toBe(true);
        // Of a probe, what it asks alone may be another.
        for (const [index, { livenessProbe }] of containersOf(object).entries()) {
          const now = containersOf(after)[index]?.['livenessProbe'] as Fields | undefined;
          const rest = Object.entries((livenessProbe ?? {}) as Fields).filter(
            ([field]) => field !== 'httpGet' && field !== 'tcpSocket',
          );
          expect(isWithin(Object.fromEntries(rest), now ?? {})).toBe(true);
          if (JSON.stringify(now) !== JSON.stringify(livenessProbe))
            expect(now).toMatchObject({
              httpGet: { port: 15621, path: expect.stringMatching(/^\/probes\/[abc]\/livenessProbe$/) },
            });
        }
        for (const kind of ['containers', 'initContainers'])
          for (const one of (specOf(after)[kind] ?? []) as readonly Fields[])
            expect(unique(one, 'volumeMounts', 'mountPath') && unique(one, 'env', 'name')).toBe(true);
      }),
      { numRuns: 500 },
    );
    expect(patched).toBeGreaterThan(50);
  });
});

function containersOf(object: Fields): readonly Fields[] {
  return specOf(object)['containers'] as readonly Fields[];
}

function withoutProbes(object: Fields): unknown {
  return JSON.parse(
    JSON.stringify(object, (key, value: unknown) => (key === 'livenessProbe' ? undefined : value)),
  );
}

function unique(container: Fields, list: string, key: string): boolean {
  const values = ((container[list] ?? []) as readonly Fields[]).map((one) => one[key]);
  return new Set(values).size === values.length;
}

/** Whether all that the one has, the other has too: lists in their order, with more between. */
function isWithin(part: unknown, whole: unknown): boolean {
  if (Array.isArray(part)) {
    if (!Array.isArray(whole)) return false;
    let at = 0;
    for (const one of whole as readonly unknown[]) if (at < part.length && isWithin(part[at], one)) at += 1;
    return at === part.length;
  }
  if (typeof part !== 'object' || part === null) return part === whole;
  return Object.entries(part).every(([name, value]) =>
    isWithin(value, (whole as Fields | undefined)?.[name]),
  );
}
