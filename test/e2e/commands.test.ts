import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { identity, namespace, pod, writeResources } from './support/resources.js';
import { newScope } from './support/scope.js';
import { signet, startSignet, type Signet } from './support/signet.js';

jest.setTimeout(60_000);

const id = 'spiffe://shop.test/ns/shop/sa/front';

describe('the commands', () => {
  const scope = newScope();
  let state: string;
  let server: Signet;
  let env: Record<string, string>;

  beforeAll(async () => {
    const resources = scope.folder();
    state = scope.folder();
    writeResources(resources, 'shop.yaml', [
      namespace('shop'),
      ...pod('front'),
      identity('front', { hint: 'main', dnsNameTemplates: ['front.shop.svc'] }),
    ]);
    server = await startSignet(scope, { resources, state, trustDomain: 'shop.test' });
    env = { SPIFFE_ENDPOINT_SOCKET: `unix://${server.socket('front')}` };
  });
  afterAll(() => scope.end());

  const json = async (args: readonly string[]): Promise<unknown> => {
    const { exit, lines, stderr } = await signet(scope, [...args, '--output', 'json'], env);
    expect({ code: exit.code, stderr }).toEqual({ code: 0, stderr: '' });
    // One document is one line, so that a stream of them can be read line by line.
    return JSON.parse(lines.join('\n'));
  };

  it('fetch an X.509-SVID as text, JSON and YAML', async () => {
    expect(await json(['svid', 'fetch'])).toMatchObject({
      svids: [{ spiffeID: id, hint: 'main', dnsNames: ['front.shop.svc'] }],
    });
    const yaml = await signet(scope, ['svid', 'fetch', '-o', 'yaml'], env);
    expect(parse(yaml.lines.join('\n'))).toMatchObject({ svids: [{ spiffeID: id }] });
    const text = await signet(scope, ['svid', 'fetch'], env);
    expect(text.lines[0]).toMatch(/^SPIFFE ID +HINT +SERIAL +EXPIRES +AUTHORITY$/);
    expect(text.lines[1]).toContain(id);
  });

  it('say which SPIFFE IDs the pods of a folder get', async () => {
    const folder = scope.folder();
    writeResources(folder, 'shop.yaml', [namespace('shop'), ...pod('front'), identity('front', {})]);
    const args = ['svid', 'list', folder, '--trust-domain', 'shop.test'];
    const text = await signet(scope, args, {});
    expect(text.lines[0]).toMatch(/^NAMESPACE +POD +NODE +SPIFFE ID +IDENTITY +TTL$/);
    expect(text.lines[1]).toMatch(
      /^shop +front\S* +- +spiffe:\/\/shop\.test\/ns\/shop\/sa\/front +WorkloadIdentity shop\/front +1h$/,
    );
  });

  it('write an SVID to files that verify, the key readable by its owner alone even over an older file', async () => {
    const folder = scope.folder();
    const key = join(folder, 'svid.0.key');
    writeFileSync(key, 'older', { mode: 0o644 });
    await signet(scope, ['svid', 'fetch', '--write', folder], env);
    expect(statSync(key).mode & 0o777).toBe(0o600);
    const file = join(folder, 'svid.0.pem');
    expect(await json(['svid', 'verify', file, '--bundle', server.ready.bundleFile])).toEqual({
      valid: true,
      spiffeID: id,
    });
    expect(await json(['svid', 'verify', file, '--bundle', join(folder, 'bundle.0.pem')])).toMatchObject({
      valid: true,
    });
    expect(await json(['svid', 'show', file])).toMatchObject({ spiffeID: id });

    const wrong = await signet(scope, [
      ...['svid', 'verify', file, '--bundle', server.ready.bundleFile],
      ...['--spiffe-id', 'spiffe://shop.test/ns/shop/sa/back'],
    ]);
    expect(wrong.exit.code).toBe(1);
    expect(wrong.lines.join('\n')).toContain('UnexpectedSpiffeId');
    // The bundle of nobody: a certificate that is no CA of the SVID.
    const stranger = await signet(scope, ['svid', 'verify', file, '--bundle', file]);
    expect(stranger.exit.code).toBe(1);
    const missing = await signet(scope, ['svid', 'verify', file, '--bundle', join(folder, 'none')]);
    expect({ code: missing.exit.code, stderr: missing.stderr }).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('[FileUnreadable]'),
    });
  });

  it('fetch a JWT-SVID that verifies by the Workload API and by the bundle file, for its audience only', async () => {
    const { svids } = (await json(['jwt', 'fetch', '--audience', 'billing'])) as {
      svids: { token: string }[];
    };
    const token = svids[0]?.token ?? '';
    const offline = ['--bundle', server.ready.bundleFile, '--trust-domain', 'shop.test'];
    for (const by of [[], offline]) {
      expect(await json(['jwt', 'verify', token, '--audience', 'billing', ...by])).toMatchObject({
        valid: true,
        spiffeID: id,
        claims: { sub: id, aud: ['billing'] },
      });
      const other = await signet(scope, ['jwt', 'verify', token, '--audience', 'shipping', ...by], env);
      expect(other.exit.code).toBe(1);
      expect(other.lines.join('\n')).toMatch(/^not valid: /);
    }
  });

  it('show the bundle, the same as the file', async () => {
    const shown = (await json(['bundle', 'show'])) as {
      bundles: { trustDomain: string; bundle: { keys: unknown[] } }[];
    };
    const file = JSON.parse(readFileSync(server.ready.bundleFile, 'utf8')) as { keys: unknown[] };
    expect(shown.bundles).toHaveLength(1);
    expect(shown.bundles[0]?.trustDomain).toBe('shop.test');
    expect(shown.bundles[0]?.bundle.keys).toHaveLength(file.keys.length);
    expect(shown.bundles[0]?.bundle.keys).toEqual(expect.arrayContaining(file.keys));
  });

  it('rotate, taint and revoke authorities, in that order only', async () => {
    type Shown = {
      authorities: { kind: string; id: string; slot: string; tainted: boolean; revoked: boolean }[];
    };
    const show = async (): Promise<Shown['authorities']> =>
      ((await json(['ca', 'show', '--state', state])) as Shown).authorities.filter(
        ({ kind }) => kind === 'X509',
      );
    const [first] = await show();
    expect(first).toMatchObject({ slot: 'Active', tainted: false });
    const early = await signet(scope, ['ca', 'taint', first?.id ?? '', '--state', state]);
    expect({ code: early.exit.code, stderr: early.stderr }).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('rotate first'),
    });
    await json(['ca', 'rotate', '--kind', 'x509', '--state', state]);
    await json(['ca', 'taint', first?.id ?? '', '--state', state]);
    await json(['ca', 'revoke', first?.id ?? '', '--state', state]);
    const after = await show();
    expect(after.find(({ id: known }) => known === first?.id)).toMatchObject({
      tainted: true,
      revoked: true,
    });
    expect(after.filter(({ slot }) => slot === 'Active')).toHaveLength(1);
    const unknown = await signet(scope, ['ca', 'taint', 'ffff', '--state', state]);
    expect(unknown.stderr).toContain('[AuthorityUnknown]');
  });

  it('print the CRDs as YAML documents and as a JSON list, the same', async () => {
    const yaml = await signet(scope, ['resources', 'crds']);
    const documents = parseAllDocuments(yaml.lines.join('\n')).map((document) => document.toJS() as unknown);
    const list = (await json(['resources', 'crds'])) as { kind: string; items: unknown[] };
    expect(list.kind).toBe('List');
    expect(list.items).toHaveLength(9);
    expect(documents).toEqual(expect.arrayContaining(list.items));
  });

  it('validate a folder: exit 0 when it is right, 1 with file, line and fix when it is not', async () => {
    const folder = scope.folder();
    writeResources(folder, 'a.yaml', [namespace('shop'), ...pod('front'), identity('front')]);
    expect(await json(['resources', 'validate', folder])).toMatchObject({ valid: true, problems: [] });
    writeResources(folder, 'a.yaml', [identity('front', { podSelektor: {} })]);
    const wrong = await signet(scope, ['resources', 'validate', folder]);
    expect(wrong.exit.code).toBe(1);
    expect(wrong.lines[0]).toMatch(
      /^error: \S*a\.yaml:\d+:\d+: WorkloadIdentity shop\/front spec.*podSelektor.*podSelector/,
    );
  });

  it('say what is missing, with the fix and the documented exit codes', async () => {
    const said = async (
      args: readonly string[],
      extra: Record<string, string> = {},
    ): Promise<[unknown, string]> => {
      const { exit, stderr } = await signet(scope, args, { SPIFFE_ENDPOINT_SOCKET: '', ...extra });
      return [exit.code, stderr];
    };
    expect(await said(['svid', 'fetch'])).toEqual([3, expect.stringContaining('set SPIFFE_ENDPOINT_SOCKET')]);
    expect(await said(['svid', 'fetch', '--socket', 'unix:///none/api.sock'])).toEqual([
      3,
      expect.stringContaining('[SocketMissing]'),
    ]);
    expect(await said(['svid', 'fetch', '--socket', 'ftp://x'])).toEqual([3, expect.stringContaining('ftp')]);
    expect(await said(['ca', 'show', '--state', '/none'])).toEqual([
      3,
      expect.stringContaining('start signet dev'),
    ]);
    expect(await said(['svid', 'fetch', '--nonsense'])).toEqual([2, expect.stringContaining('--nonsense')]);
    expect(await said(['svid', 'fetch', '-o', 'xml'])).toEqual([2, expect.stringContaining('json')]);
    expect(await said(['jwt', 'fetch'], env)).toEqual([2, expect.stringContaining('--audience')]);
  });
});
