import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { openConnection } from './connection.js';

describe('a kubeconfig', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kubeconfig-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  let files = 0;
  const write = async (user: object, cluster: object = {}): Promise<string> => {
    const path = join(folder, `config-${++files}`);
    const server = 'https://192.0.2.1:6443/prefix';
    const config = {
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'one' },
      clusters: [{ name: 'c', cluster: { server, ...cluster } }],
      contexts: [
        { name: 'one', context: { cluster: 'c', user: 'u', namespace: 'shop' } },
        { name: 'two', context: { cluster: 'c', user: 'u' } },
      ],
      users: [{ name: 'u', user }],
    };
    await writeFile(path, stringify(config));
    return path;
  };
  const base64 = (text: string): string => Buffer.from(text).toString('base64');

  it('says where the API server is, who we are, and whom we trust', async () => {
    const kubeconfig = await write(
      { token: 'a-token' },
      { 'certificate-authority-data': base64('the CA'), 'tls-server-name': 'api.internal' },
    );
    const connection = await openConnection({ kubeconfig });
    expect([connection.server.href, connection.namespace]).toEqual(['https://192.0.2.1:6443/prefix', 'shop']);
    const { headers, tls, proxy } = await connection.access();
    expect([headers['Authorization'], proxy]).toEqual(['Bearer a-token', undefined]);
    expect([String(tls.ca), tls.servername, tls.rejectUnauthorized ?? true]).toEqual([
      'the CA',
      'api.internal',
      true,
    ]);
  });

  it('may hold a client certificate, and is read by another context', async () => {
    const kubeconfig = await write({
      'client-certificate-data': base64('a certificate'),
      'client-key-data': base64('a key'),
    });
    const connection = await openConnection({ kubeconfig, context: 'two' });
    const { headers, tls } = await connection.access();
    expect([connection.namespace, headers, String(tls.cert), String(tls.key)]).toEqual([
      ...[undefined, {}, 'a certificate', 'a key'],
    ]);
  });

  it('may ask a program for credentials, and says why it has none', async () => {
    const credential = {
      apiVersion: 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      status: { token: 'from-a-program' },
    };
    const exec = (script: string): object => ({
      exec: {
        ...{ apiVersion: 'client.authentication.k8s.io/v1', command: '/bin/sh', args: ['-c', script] },
        interactiveMode: 'Never',
      },
    });
    const well = await openConnection({
      kubeconfig: await write(exec(`echo '${JSON.stringify(credential)}'`)),
    });
    expect((await well.access()).headers['Authorization']).toBe('Bearer from-a-program');
    const ill = await openConnection({ kubeconfig: await write(exec('echo no >&2; exit 1')) });
    await expect(ill.access()).rejects.toThrow();
  });

  it.each([
    ['is not there', () => Promise.resolve('/nowhere/config'), undefined, '/nowhere/config cannot be used: '],
    ['lacks the context', () => write({}), 'three', 'it has no context "three"'],
    ['names a server without TLS', () => write({}, { server: 'http://192.0.2.1' }), undefined, 'https'],
    [
      'is no YAML',
      async () => {
        const path = join(folder, 'broken');
        await writeFile(path, '{');
        return path;
      },
      undefined,
      'cannot be used',
    ],
  ])('that %s is an error that says so', async (_, path, context, text) => {
    const options = { kubeconfig: await path(), ...(context === undefined ? {} : { context }) };
    await expect(openConnection(options)).rejects.toMatchObject({
      code: 'KubeconfigInvalid',
      message: expect.stringContaining(text) as unknown,
    });
  });
});
