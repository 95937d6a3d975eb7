import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { createInventory } from '../../src/access/mesh/inventory.js';
import { opaBundle, opaFiles, type BundleSigner } from '../../src/access/mesh/opa/bundle.js';
import { opaRenderer } from '../../src/access/mesh/opa/renderer.js';
import { render, type RenderContext } from '../../src/access/mesh/renderer.js';
import { evaluate } from '../../src/access/policy/evaluate.js';
import type { PolicyInput, RuleInput } from '../../src/access/policy/input.js';
import type { AccessRequest } from '../../src/access/policy/model.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { opaCheck, opaEval, opaVerify, runOpa } from '../rig/opa.js';
import * as rig from '../rig/rig.js';
import { compileWorld, language, WORLD, proof } from '../support/policies.js';
import { asking, TRICKY_PATHS, worlds, type World } from '../support/policy-worlds.js';

const zones = new ZoneClock();
const everything = language({
  principals: [
    'spiffeId',
    'serviceAccount',
    'namespace',
    'namespaceSelector',
    'trustDomain',
    'identity',
    'authenticated',
    'anyone',
    'ipBlock',
  ],
  operations: ['ports', 'methods', 'hosts', 'paths', 'headers', 'query', 'grpc', 'actions'],
  when: ['token', 'during', 'outside', 'sourceLabels', 'targetLabels', 'sourcePosture', 'attributes', 'cel'],
  roles: true,
});

interface OpaDecision {
  readonly allowed: boolean;
  readonly decided_by: unknown;
  readonly reason: string;
  readonly audit: readonly unknown[];
}

function contextOf(
  { inventory, inputs }: Pick<World, 'inventory' | 'inputs'>,
  defaultAction: 'Allow' | 'Deny',
): RenderContext {
  return { set: compileWorld(inputs, inventory, { defaultAction }), inventory, time: WORLD.now, zones };
}

/** Writes files of a bundle into a folder. */
async function writeFiles(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const file = join(folder, name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }
}

(rig.isSkipped('opa') ? describe.skip : describe)('OPA', () => {
  let folder: string;
  beforeAll(async () => {
    await rig.opa();
    folder = await mkdtemp(join(tmpdir(), 'opa-proof-'));
  }, rig.rigTimeout);
  afterAll(() => rm(folder, { recursive: true }));

  /** The policies of several worlds in one bundle cannot be: so each world is asked by itself. */
  async function ask(context: RenderContext, inputs: readonly unknown[]): Promise<readonly OpaDecision[]> {
    const own = await mkdtemp(join(folder, 'bundle-'));
    await writeFiles(own, opaFiles(context).files);
    return (await opaEval({ bundles: [own] }, 'data.signet.decision', inputs)) as readonly OpaDecision[];
  }

  it('takes the modules, checked strictly', async () => {
    const own = await mkdtemp(join(folder, 'check-'));
    const world = {
      inventory: createInventory({ trustDomain: 'td', namespaces: [], workloads: [] }),
      inputs: [],
    };
    await writeFiles(own, opaFiles(contextOf(world, 'Deny')).files);
    expect(await opaCheck(['--bundle', own])).toBe('');
  });

  it('answers as the policies do, with the same rule and the same findings, but for CEL', async () => {
    const tally = { asked: 0, open: 0, exact: 0, narrower: 0, findings: 0 };
    const asked = asking({ lowerCaseMethods: true });
    await fc.assert(
      fc.asyncProperty(
        worlds(everything, asked, 60),
        fc.constantFrom('Allow' as const, 'Deny' as const),
        async (world, defaultAction) => {
          const context = contextOf(world, defaultAction);
          const { verdicts } = opaFiles(context);
          const exact = verdicts.every(({ fidelity }) => fidelity === 'Exact');
          const decisions = await ask(context, world.requests);
          for (const [index, request] of world.requests.entries()) {
            const wanted = evaluate(context.set, request);
            const given = decisions[index];
            tally.asked++;
            if (given?.allowed === true) tally.open++;
            if (exact) tally.exact++;
            else tally.narrower++;
            tally.findings += wanted.audit.length;
            if (given?.allowed === true && !wanted.allowed)
              throw new Error(`wider: ${JSON.stringify(request)}`);
            if (!exact) continue;
            const { allowed, decidedBy, audit } = wanted;
            expect({ request, allowed: given?.allowed, by: given?.decided_by, audit: given?.audit }).toEqual({
              request,
              allowed,
              by: decidedBy,
              audit: audit.map(({ policy, rule, wouldHave, changesAnswer }) => ({
                policy,
                ...(rule === undefined ? {} : { rule }),
                wouldHave,
                changesAnswer,
              })),
            });
          }
        },
      ),
      { ...proof(60), endOnFailure: true },
    );
    expect(tally.open).toBeGreaterThan(tally.asked / 10);
    expect(tally.asked - tally.open).toBeGreaterThan(tally.asked / 10);
    expect(tally.exact).toBeGreaterThan(tally.asked / 10);
    expect(tally.narrower).toBeGreaterThan(tally.asked / 10);
    expect(tally.findings).toBeGreaterThan(0);
  }, 600_000);

  const inventory = createInventory({
    trustDomain: 'td',
    namespaces: [{ name: 'a', labels: {} }],
    workloads: [
      {
        namespace: 'a',
        name: 'one',
        serviceAccount: 'x',
        labels: { app: 'one' },
        namespaceLabels: {},
        spiffeIds: ['spiffe://td/ns/a/sa/x'],
        ports: [{ port: 8080, protocol: 'http' }],
      },
    ],
  });
  const policy = (rules: readonly RuleInput[]): PolicyInput => ({
    kind: 'AccessPolicy',
    metadata: { name: 'p', namespace: 'a' },
    spec: { target: {}, rules },
  });
  const admin = contextOf(
    {
      inventory,
      inputs: [
        policy([
          { name: 'all', from: [{ anyone: true }] },
          {
            name: 'admin',
            effect: 'Deny',
            from: [{ anyone: true }],
            to: [{ http: { paths: [{ prefix: '/admin' }] } }],
          },
        ]),
      ],
    },
    'Deny',
  );

  /** As Envoy asks through opa-envoy-plugin; parsed_path as that plugin makes it, which is not looked at. */
  const envoyInput = (path: string, principal = 'spiffe://td/ns/a/sa/x'): unknown => ({
    attributes: {
      source: { principal, address: { socketAddress: { address: '10.0.0.1', portValue: 4000 } } },
      destination: { address: { socketAddress: { address: '10.0.0.2', portValue: 8080 } } },
      contextExtensions: { 'signet.dev/target': 'a/one' },
      request: {
        http: { method: 'GET', path, host: 'api.example', headers: { ':path': path, 'x-env': 'one' } },
      },
    },
    parsed_path: ['public'],
  });

  it('trap 25: reads the path itself, not parsed_path, and refuses what could be read in two ways', async () => {
    const paths = [...TRICKY_PATHS, '/admin', '/admin/x', '//admin', '/%61dmin', '/a%2fb'];
    const decisions = await ask(
      admin,
      paths.map((path) => envoyInput(path)),
    );
    expect(decisions.map(({ allowed }) => allowed)).toEqual(paths.map(() => false));
    const [open] = await ask(admin, [envoyInput('/administrator?q=1')]);
    expect(open).toMatchObject({ allowed: true, decided_by: { kind: 'rule', rule: 'all' } });
  });

  it('takes a peer that has no SPIFFE ID for nobody, and denies what it has never heard of', async () => {
    const context = contextOf(
      { inventory, inputs: [policy([{ name: 'r', from: [{ anyAuthenticated: true }] }])] },
      'Deny',
    );
    const inputs = [
      envoyInput('/p'),
      envoyInput('/p', 'web.example'),
      envoyInput('/p', ''),
      { ...(envoyInput('/p') as object), attributes: {} },
      {},
      { source: 'spiffe://td/ns/a/sa/x', target: { namespace: 'a', name: 'other' }, time: WORLD.now },
      { source: 'SPIFFE://td/ns/a/sa/x', target: { namespace: 'a', name: 'one' }, time: WORLD.now },
      { target: { namespace: 'a', name: 'one' }, token: {}, time: WORLD.now },
      { source: 7, target: { namespace: 'a', name: 'one' }, time: WORLD.now },
      { source: 'spiffe://td/ns/a/sa/x', target: { namespace: 'a', name: 'one' }, time: 'now' },
    ];
    expect((await ask(context, inputs)).map(({ allowed }) => allowed)).toEqual([
      true,
      ...inputs.slice(1).map(() => false),
    ]);
  });

  it('looks at the clock by itself when the input names no time', async () => {
    const context = contextOf(
      {
        inventory,
        inputs: [
          {
            ...policy([{ name: 'r', from: [{ anyone: true }] }]),
            spec: {
              ...policy([]).spec,
              rules: [{ name: 'r', from: [{ anyone: true }] }],
              validity: { from: '2020-01-01T00:00:00Z' },
            },
          },
        ],
      },
      'Deny',
    );
    const target = { namespace: 'a', name: 'one' };
    const decisions = await ask(context, [{ target }, { target, time: Date.UTC(2019, 1) }]);
    expect(decisions.map(({ allowed }) => allowed)).toEqual([true, false]);
  });

  describe('signed', () => {
    const pems = new Map<string, string>();
    async function keyFile(name: string, key: KeyObject): Promise<string> {
      const file = join(folder, `${name}.pem`);
      await writeFile(file, key.export({ type: 'spki', format: 'pem' }));
      pems.set(name, file);
      return file;
    }
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const signers: readonly (BundleSigner & { readonly publicKey: KeyObject })[] = [
      { algorithm: 'ES256', key: ec.privateKey, keyId: 'default', publicKey: ec.publicKey },
      { algorithm: 'RS256', key: rsa.privateKey, keyId: 'default', publicKey: rsa.publicKey },
      { algorithm: 'PS256', key: rsa.privateKey, keyId: 'default', publicKey: rsa.publicKey },
    ];

    it.each(signers)('is verified by OPA itself with $algorithm', async (signer) => {
      const file = join(folder, `${signer.algorithm}.tar.gz`);
      await writeFile(file, opaBundle(admin, {}, signer).archive);
      const key = await keyFile(signer.algorithm, signer.publicKey);
      expect(await opaVerify(file, { file: key, algorithm: signer.algorithm })).toBe('');
    });

    it('is refused when a byte of a file or the key is another, or when nobody signed it', async () => {
      const [signer] = signers;
      if (signer === undefined) throw new Error('there is no signer');
      const { archive } = opaBundle(admin, {}, signer);
      const key = { file: await keyFile('good', signer.publicKey), algorithm: 'ES256' };
      const check = async (name: string, bytes: Buffer, by = key): Promise<string> => {
        const file = join(folder, `${name}.tar.gz`);
        await writeFile(file, bytes);
        return opaVerify(file, by);
      };
      expect(await check('good', archive)).toBe('');
      const tar = gunzipSync(archive);
      const changed = Buffer.from(tar.toString('latin1').replace('"Deny"', '"Xeny"'), 'latin1');
      expect(changed.equals(tar)).toBe(false);
      expect(await check('changed', gzipSync(changed))).toContain('digest mismatch');
      const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      expect(
        await check('other', archive, { ...key, file: await keyFile('other', other.publicKey) }),
      ).toContain('verify');
      expect(await check('unsigned', opaBundle(admin).archive)).not.toBe('');
    });

    it('is the same bytes for the same policies, and refuses a key that does not go with the algorithm', async () => {
      expect(opaBundle(admin).archive.equals(opaBundle(admin).archive)).toBe(true);
      expect(() => opaBundle(admin, {}, { algorithm: 'ES256', key: rsa.privateKey, keyId: 'k' })).toThrow(
        'needs a private key',
      );
      const wide = generateKeyPairSync('ec', { namedCurve: 'P-384' });
      expect(() => opaBundle(admin, {}, { algorithm: 'ES256', key: wide.privateKey, keyId: 'k' })).toThrow(
        'P-256',
      );
      expect(() => opaBundle(admin, {}, { algorithm: 'RS256', key: rsa.publicKey, keyId: 'k' })).toThrow(
        'needs a private key',
      );
      expect(pems.size).toBeGreaterThan(0);
    });
  });

  it('is written as ConfigMaps that OPA loads from one folder', async () => {
    const own = await mkdtemp(join(folder, 'maps-'));
    const { objects } = render(opaRenderer(), admin);
    for (const { data = {} } of objects) await writeFiles(own, data);
    expect(await readFile(join(own, 'data.json'), 'utf8')).toContain('"rules"');
    const { stdout } = await runOpa(
      ['eval', '--bundle', own, '--format', 'raw', '--stdin-input', 'data.signet.allowed'],
      JSON.stringify(envoyInput('/p')),
    );
    expect(stdout.trim()).toBe('true');
  });

  it('refuses every request whose path our own reading refuses', async () => {
    const path = fc.string({
      unit: fc.constantFrom('/', '.', '%', '2', 'f', 'F', '5', 'C', 'c', ';', '\\', 'a', 'é', ' ', '?', '\n'),
      maxLength: 9,
    });
    await fc.assert(
      fc.asyncProperty(fc.array(path, { minLength: 400, maxLength: 400 }), async (paths) => {
        const requests = paths.map((text): AccessRequest => ({
          source: 'spiffe://td/ns/a/sa/x',
          target: inventory.workloads[0] as AccessRequest['target'],
          port: 8080,
          http: { method: 'GET', path: `/${text}` },
          time: WORLD.now,
        }));
        const decisions = await ask(admin, requests);
        expect(decisions.map(({ allowed }, index) => [paths[index], allowed])).toEqual(
          requests.map((request, index) => [paths[index], evaluate(admin.set, request).allowed]),
        );
      }),
      { ...proof(4), endOnFailure: true },
    );
  }, 60_000);
});
