import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parse } from 'yaml';
import { RIGHT } from '../../test/support/right-resources.js';
import { admitObject, validateObject } from './admit.js';
import { checkRule, isTransitionRule } from './cel-rules.js';
import { DEFINITIONS } from './definitions.js';
import { kinds } from './crd.js';
import type { SignetKind } from './kinds.js';
import { formatPath } from './problem.js';
import type { CelRule, SchemaNode } from './schema.js';

function object(kind: SignetKind, spec: unknown): Readonly<Record<string, unknown>> {
  return { apiVersion: 'signet.dev/v1alpha1', kind, metadata: { name: 'x' }, spec };
}

function said(kind: SignetKind, spec: unknown): string[] {
  return validateObject(kind, object(kind, spec)).map(
    ({ path, message, fix }) => `${formatPath(path)}: ${message}${fix === undefined ? '' : `; ${fix}`}`,
  );
}

/** A spec from YAML, laid over the right one of the kind. */
function changed(kind: SignetKind, text: string): unknown {
  return { ...(parse(RIGHT[kind]) as object), ...(parse(text) as object) };
}

describe('admitObject', () => {
  it.each(kinds)('takes a right %s, and fills in nothing that is there', (kind) => {
    const spec = parse(RIGHT[kind]) as Record<string, unknown>;
    const before = JSON.stringify(spec);
    expect(said(kind, spec)).toEqual([]);
    expect(admitObject(kind, object(kind, spec)).object?.['spec']).toMatchObject(spec);
    expect(JSON.stringify(spec)).toBe(before);
  });

  it('fills in defaults', () => {
    const spec = { target: {}, rules: [{ name: 'r', from: [{ anyone: true }] }] };
    expect(admitObject('AccessPolicy', object('AccessPolicy', spec)).object?.['spec']).toEqual({
      target: {},
      rules: [{ name: 'r', effect: 'Allow', from: [{ anyone: true }] }],
      mode: 'Enforce',
    });
    expect(admitObject('TrustDomain', object('TrustDomain', { name: 'a.org' })).object?.['spec']).toEqual({
      name: 'a.org',
      defaultAction: 'Deny',
    });
  });

  it.each<[SignetKind, string, string]>([
    [
      'WorkloadIdentity',
      'podSelectr: {}',
      'spec.podSelectr: there is no field "podSelectr"; did you mean podSelector?',
    ],
    ['WorkloadIdentity', 'hint: 5', 'spec.hint: must be a text, not 5; write it in quotes: "5"'],
    ['WorkloadIdentity', 'hint:', 'spec.hint: has no value; write a value, or remove the line'],
    [
      'WorkloadIdentity',
      'serviceAccountNames: web',
      'spec.serviceAccountNames: must be a list, not "web"; put "- " in front of each entry',
    ],
    [
      'WorkloadIdentity',
      'serviceAccountNames: []',
      'spec.serviceAccountNames: is an empty list; remove it, or write at least one entry',
    ],
    [
      'WorkloadIdentity',
      'serviceAccountNames: [a, b, a]',
      'spec.serviceAccountNames[2]: "a" stands twice in this list (first as entry 1); remove one of the two',
    ],
    [
      'WorkloadIdentity',
      'x509TTL: 1d',
      'spec.x509TTL: "1d" is not right here; write hours, minutes and seconds: "1h", "30m", "1h30m", "90s"',
    ],
    [
      'WorkloadIdentity',
      'x509TTL: 1s',
      'spec.x509TTL: "1s" is too short: an SVID must live long enough to be used, and not for years; write at least 5s',
    ],
    [
      'WorkloadIdentity',
      'jwtTTL: 10000h',
      'spec.jwtTTL: "10000h" is too long: an SVID must live long enough to be used, and not for years; write at most 9528h',
    ],
    [
      'WorkloadIdentity',
      'requirements: { noPrivileged: "yes" }',
      'spec.requirements.noPrivileged: must be true or false, not "yes"; write true',
    ],
    [
      'WorkloadIdentity',
      'podSelector: { matchLabels: { app: 5 } }',
      'spec.podSelector.matchLabels.app: must be a text, not 5; write it in quotes: "5"',
    ],
    [
      'WorkloadIdentity',
      'podSelector: { matchExpressions: [{ key: a, operator: In }] }',
      'spec.podSelector.matchExpressions[0]: In and NotIn need values, Exists and DoesNotExist take none',
    ],
    [
      'WorkloadIdentity',
      'podSelector: { matchExpressions: [{ key: a, operator: in, values: [b] }] }',
      'spec.podSelector.matchExpressions[0].operator: "in" is none of In, NotIn, Exists, DoesNotExist; did you mean In?',
    ],
    [
      'WorkloadIdentity',
      'spiffeIDTemplate: ns/default/x',
      'spec.spiffeIDTemplate: "ns/default/x" is not right here; begin with "spiffe://" or "/"',
    ],
    [
      'WorkloadIdentity',
      'spiffeIDTemplate: /ns/default/../kube-system',
      'spec.spiffeIDTemplate: path "/ns/default/../kube-system" may not hold ".." as a segment',
    ],
    [
      'WorkloadIdentity',
      'spiffeIDTemplate: spiffe://Example.org/ns/default/x',
      'spec.spiffeIDTemplate: trust domain "Example.org" may hold only a-z, 0-9, ".", "-" and "_"; write "example.org"',
    ],
    [
      'WorkloadIdentity',
      'dnsNameTemplates: ["spiffe://a/b"]',
      'spec.dnsNameTemplates[0]: "spiffe://a/b" is a URI; a DNS name such as "payments.example.org" is wanted',
    ],
    [
      'WorkloadIdentity',
      'dnsNameTemplates: ["db.{{ .Namespace }}.svc", db.bank.svc]',
      'spec.dnsNameTemplates[1]: "db.bank.svc" lies outside namespace "default": a WorkloadIdentity names workloads of its own namespace only; end it with ".{{ .Namespace }}.svc" or ".{{ .Namespace }}.svc.cluster.local", or let a cluster admin write a ClusterWorkloadIdentity',
    ],
    [
      'WorkloadIdentity',
      'federatesWith: [Partner]',
      'spec.federatesWith[0]: "Partner" is not right here; write the name alone, in lower case: "example.org"',
    ],
    [
      'ClusterWorkloadIdentity',
      'podSelector: {}',
      'spec: processSelector is for processes outside Kubernetes and goes with no selector of pods; write two ClusterWorkloadIdentities',
    ],
    [
      'ClusterWorkloadIdentity',
      'processSelector: {}',
      'spec.processSelector: at least one of uid, gid, supplementaryGid, path and sha256 must be written',
    ],
    [
      'ClusterWorkloadIdentity',
      'processSelector: { uid: -1 }',
      'spec.processSelector.uid: -1 is out of range; write a number from 0 to 4294967294',
    ],
    [
      'ClusterWorkloadIdentity',
      'processSelector: { uid: "1000" }',
      'spec.processSelector.uid: must be a whole number, not "1000"; write 1000 without quotes',
    ],
    [
      'TrustDomain',
      'ttls: { authority: 1h, x509Svid: 2h }',
      'spec.ttls: x509Svid is longer than authority: no SVID outlives the authority that signed it; make authority longer or x509Svid shorter',
    ],
    [
      'TrustDomain',
      'meshOptions: { linkerd: { probeNetworks: [10.0.0.0] } }',
      'spec.meshOptions.linkerd.probeNetworks[0]: "10.0.0.0" is not right here; write an address and the length of its prefix: "10.0.0.0/8", "2001:db8::/32"',
    ],
    [
      'TrustDomain',
      'meshOptions: { cilium: { podNetworks: [10.0.0.0/8, 10.0.0.0/40] } }',
      'spec.meshOptions.cilium.podNetworks[1]: "10.0.0.0/40" is no CIDR block; write an address and the length of its prefix',
    ],
    [
      'TrustDomain',
      'meshOptions: { istoi: {} }',
      'spec.meshOptions.istoi: there is no field "istoi"; did you mean istio?',
    ],
    [
      'TrustDomain',
      'keyTypes: { jwtAuthority: ed25519 }',
      'spec.keyTypes.jwtAuthority: "ed25519" is none of ec-p256, ec-p384, rsa-2048, rsa-4096; write one of ec-p256, ec-p384, rsa-2048, rsa-4096',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r }]',
      'spec.rules[0].from: is missing; write it: who calls; the entries are alternatives. Anyone is written "- anyone: true"',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [] }]',
      'spec.rules[0].from: is an empty list; remove it, or write at least one entry',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{}] }]',
      'spec.rules[0].from[0]: at least one of spiffeIDs, identities, serviceAccounts, namespaces, namespaceSelector, anyAuthenticated, anyone, trustDomains and ipBlocks must be written',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ anyone: false }] }]',
      'spec.rules[0].from[0].anyone: can only be true; remove the line to say no',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ anyone: true }], to: [{ http: { methods: [get] } }] }]',
      'spec.rules[0].to[0].http.methods[0]: "get" is not right here; write it in upper case: "GET"',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ anyone: true }], to: [{ http: { paths: [{ prefix: "/a//b" }] } }] }]',
      'spec.rules[0].to[0].http.paths[0].prefix: the path holds "//"',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ anyone: true }], to: [{ http: { paths: [{ exact: /a, prefix: /b }] } }] }]',
      'spec.rules[0].to[0].http.paths[0]: exactly one of exact, prefix and template must be written',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ spiffeIDs: ["spiffe://a.org/../b"] }] }]',
      'spec.rules[0].from[0].spiffeIDs[0]: path "/../b" may not hold ".." as a segment',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ spiffeIDs: ["spiffe://a.org"] }] }]',
      'spec.rules[0].from[0].spiffeIDs[0]: "spiffe://a.org" is a trust domain and no workload; write trustDomains to name all of its workloads',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ ipBlocks: [10.0.0.1/8] }] }]',
      'spec.rules[0].from[0].ipBlocks[0]: "10.0.0.1/8" has bits set behind its prefix: it may not be the block that was meant; write "10.0.0.0/8"',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ anyone: true }] }, { name: r, from: [{ anyone: true }] }]',
      'spec.rules[1].name: "r" stands twice in this list (first as entry 1); remove one of the two',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ anyone: true }], when: { cel: "a ==" } }]',
      'spec.rules[0].when.cel: this is no CEL expression: ',
    ],
    [
      'AccessPolicy',
      'rules: [{ name: r, from: [{ anyone: true }], when: { during: [{ from: "09:00", until: "17:00", timeZone: Europe/Berln }] } }]',
      'spec.rules[0].when.during[0].timeZone: there is no time zone "Europe/Berln"; write an IANA name: "Europe/Berlin", "UTC"',
    ],
    [
      'AccessPolicy',
      'validity: { from: "2026-02-30T00:00:00Z" }',
      'spec.validity.from: "2026-02-30T00:00:00Z" is no date and time; write date, time and zone (RFC 3339): "2026-12-31T18:00:00Z"',
    ],
    [
      'AccessPolicy',
      'validity: { from: "2027-01-01T00:00:00Z", until: "2026-01-01T00:00:00Z" }',
      'spec.validity: from must be before until',
    ],
    [
      'AccessPolicy',
      'mode: enforce',
      'spec.mode: "enforce" is none of Enforce, Audit; did you mean Enforce?',
    ],
    [
      'ClusterAccessPolicy',
      'rules: [{ name: r, from: [{ anyAuthenticated: true, except: [{ serviceAccounts: [{ name: a }] }] }] }]',
      'spec.rules[0].from[0].except[0].serviceAccounts[0]: in a ClusterAccessPolicy the namespace must be written',
    ],
    [
      'ClusterAccessPolicy',
      'rules: [{ name: r, from: [{ identities: [{ name: a }] }] }]',
      'spec.rules[0].from[0].identities[0]: in a ClusterAccessPolicy the namespace must be written',
    ],
    [
      'FederatedTrustDomain',
      'bundleEndpoint: { url: "http://a", profile: https_web }',
      'spec.bundleEndpoint.url: "http://a" is not right here; write an https URL without user info: "https://spiffe.partner.example/bundle"',
    ],
    [
      'FederatedTrustDomain',
      'bundleEndpoint: { url: "https://a/b", profile: https_spiffe, endpointSPIFFEID: "spiffe://partner.example/x" }',
      'spec: an https_spiffe endpoint inside its own trust domain needs a first bundle to be checked with; write bundle',
    ],
    ['FederatedTrustDomain', 'bundle: "{}"', 'spec.bundle: '],
    [
      'Revocation',
      'subject: { spiffeID: "spiffe://a.org/b", serialNumber: ab }',
      'spec.subject: exactly one of spiffeID, pod, serialNumber, authorityID, token, user and session must be written',
    ],
    [
      'Revocation',
      'subject: { serialNumber: "AB:CD" }',
      'spec.subject.serialNumber: "AB:CD" is not right here; write it in lower-case hex without ":"',
    ],
    ['AccessRequest', 'duration: 0s', 'spec: duration must be longer than nothing'],
  ])('%s with %s: says so', (kind, text, problem) => {
    const problems = said(kind, changed(kind, text));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(problem);
  });

  it('keeps a WorkloadIdentity in its own namespace', () => {
    for (const template of [
      '/ns/other/sa/x',
      '/host/x',
      'spiffe://example.org/ns/defaults/x',
      '/ns/{{ .Namespace }}x/y',
    ]) {
      expect(said('WorkloadIdentity', { spiffeIDTemplate: template })).toEqual([
        expect.stringContaining('lies outside /ns/default/'),
      ]);
      if (!template.includes('Namespace')) {
        expect(said('ClusterWorkloadIdentity', { spiffeIDTemplate: template })).toEqual([]);
      }
    }
    expect(said('WorkloadIdentity', { spiffeIDTemplate: '/ns/default/x' })).toEqual([]);
  });

  it('keeps static pods to what they have, and warns where every node could have the same SPIFFE ID', () => {
    const of = (spec: object): string[] => said('ClusterWorkloadIdentity', { staticPods: true, ...spec });
    expect(of({ spiffeIDTemplate: '/node/{{ .NodeName }}/etcd' })).toEqual([]);
    expect(of({ spiffeIDTemplate: '/etcd' })).toEqual([
      expect.stringContaining('spec.spiffeIDTemplate: every node can have this SPIFFE ID'),
    ]);
    for (const spec of [{}, { spiffeIDTemplate: '/{{ .NodeName }}', serviceAccountNames: ['etcd'] }])
      expect(of(spec)).toEqual([expect.stringContaining('a static pod has no service account')]);
    for (const spec of [
      { containerSelector: {} },
      { containerSelector: { imageDigests: ['sha256:abc'] } },
      { containerSelector: { names: ['App'] } },
    ])
      expect(said('WorkloadIdentity', spec)).toHaveLength(1);
  });

  it('names a template field that is not there', () => {
    expect(said('WorkloadIdentity', { spiffeIDTemplate: '/ns/{{ .Namespace }}/{{ .Servce }}' })).toEqual([
      expect.stringContaining('there is no field .Servce'),
    ]);
    expect(
      said('ClusterWorkloadIdentity', { processSelector: { uid: 1 }, spiffeIDTemplate: '/x/{{ .PodName }}' }),
    ).toEqual([expect.stringContaining('processSelector selects processes, not pods')]);
  });

  it('judges metadata as the API server does', () => {
    const problems = (metadata: unknown, kind: SignetKind = 'WorkloadIdentity'): string[] =>
      validateObject(kind, { ...object(kind, parse(RIGHT[kind])), metadata }).map(({ path }) =>
        formatPath(path),
      );
    expect(problems(undefined)).toEqual(['metadata']);
    expect(problems({})).toEqual(['metadata.name']);
    expect(problems({ name: 'A' })).toEqual(['metadata.name']);
    expect(problems({ name: 7 })).toEqual(['metadata.name']);
    expect(problems({ name: 'a', namespace: 'b.c' })).toEqual(['metadata.namespace']);
    expect(problems({ name: 'a', labels: { 'x y': 'z', ok: 5 } })).toEqual([
      'metadata.labels["x y"]',
      'metadata.labels.ok',
    ]);
    expect(problems({ name: 'a', annotations: { ok: 5 } })).toEqual(['metadata.annotations.ok']);
    expect(problems({ name: 'a', namespace: 'b' }, 'TrustDomain')).toEqual(['metadata.namespace']);
  });

  it('says where a field belongs that stands one level too high', () => {
    const raw = { ...object('WorkloadIdentity', {}), hint: 'x', Spec: {} };
    expect(validateObject('WorkloadIdentity', raw)).toMatchObject([
      { path: ['hint'], fix: 'indent it under spec:' },
      { path: ['Spec'], fix: 'did you mean spec?' },
    ]);
  });

  it('judges of Kubernetes objects what identities hang on', () => {
    const problems = (kind: 'Pod' | 'Deployment' | 'CronJob', spec: unknown): string[] =>
      admitObject(kind, { metadata: { name: 'x' }, spec }).problems.map(({ path }) => formatPath(path));
    expect(problems('Pod', { serviceAccountName: 5, nodeName: 'A b' })).toEqual([
      'spec.serviceAccountName',
      'spec.nodeName',
    ]);
    expect(problems('Pod', undefined)).toEqual([]);
    expect(problems('Deployment', {})).toEqual(['spec.template']);
    expect(
      problems('Deployment', { replicas: -1, template: { metadata: { labels: { a: 1 } }, spec: [] } }),
    ).toEqual(['spec.replicas', 'spec.template.metadata.labels.a', 'spec.template.spec']);
    expect(problems('CronJob', { jobTemplate: { spec: { template: { spec: {} } } } })).toEqual([]);
  });

  it('never throws, whatever it is given', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...kinds, 'Pod' as const, 'Deployment' as const),
        fc.jsonValue(),
        fc.jsonValue(),
        (kind, spec, metadata) => {
          expect(Array.isArray(admitObject(kind, { metadata, spec }).problems)).toBe(true);
        },
      ),
    );
  });

  it('never throws for a right object with one value replaced, and keeps to 50 problems', () => {
    fc.assert(
      fc.property(fc.constantFrom(...kinds), fc.nat(), fc.jsonValue(), (kind, at, value) => {
        const spec = parse(RIGHT[kind]) as object;
        const places: (readonly [Record<string, unknown>, string])[] = [];
        const visit = (node: unknown): void => {
          if (typeof node !== 'object' || node === null) return;
          for (const key of Object.keys(node)) {
            places.push([node as Record<string, unknown>, key]);
            visit((node as Record<string, unknown>)[key]);
          }
        };
        visit(spec);
        const place = places[at % places.length];
        if (place !== undefined) place[0][place[1]] = value;
        expect(validateObject(kind, object(kind, spec)).length).toBeLessThanOrEqual(60);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('the CEL rules', () => {
  const rules: { readonly kind: SignetKind; readonly rule: CelRule }[] = [];
  const collect = (kind: SignetKind, node: SchemaNode): void => {
    for (const rule of node.rules ?? []) rules.push({ kind, rule });
    if (node.type === 'object') for (const { node: child } of node.properties.values()) collect(kind, child);
    if (node.type === 'list') collect(kind, node.items);
  };
  for (const kind of kinds) collect(kind, DEFINITIONS[kind].spec.node);

  it('are all read by CEL, and use nothing that only one implementation has', () => {
    expect(rules.length).toBeGreaterThan(50);
    for (const { rule } of rules) {
      if (!isTransitionRule(rule)) expect(() => checkRule(rule, {})).not.toThrow();
      // Optional syntax and the API server's own libraries are not in @bufbuild/cel.
      expect(rule.rule).not.toMatch(/\?\.|\b(isURL|url|isIP|ip|isCIDR|cidr|quantity|semver|format|sets)\(/);
      // A reserved word as a field is written with underscores, or the API server refuses the whole CRD.
      expect(rule.rule).not.toMatch(/\.(namespace|import|package|as|for|if|in|let|loop)\b/);
      expect(rule.message.length).toBeLessThan(1024);
    }
  });
});
