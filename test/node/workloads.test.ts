import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { writeProgramImage } from '../rig/images.js';
import { envoy, isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';
import { JAVA_COMMAND, languages, writeJava, writePython, writeRust } from './support/language-images.js';
import { blocksOf, manifestOf } from './support/pages.js';
import {
  writeBusybox,
  writeCurl,
  writeGo,
  writeNginx,
  writeNode,
  writePostgres,
  type ImageWriter,
} from './support/program-images.js';
import { startNodeWorld, type NodeWorld } from './support/world.js';

/* The pages of docs/workloads: their manifests are applied as they stand there, with their programs, and do what the pages say. */

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const run = promisify(execFile);
const wanted = languages();
const GREETER = 'spiffe://example.org/ns/hello/sa/greeter';
const CALLER = 'spiffe://example.org/ns/hello/sa/caller';

/** What the images of the pages are here. */
const IMAGES: readonly (readonly [string, ImageWriter])[] = [
  ['registry.example.org/whoami-go:1.0', writeGo],
  ['registry.example.org/whoami-node:1.0', writeNode],
  ['docker.io/envoyproxy/envoy:v1.40.0', async (file, name) => writeProgramImage(file, name, await envoy())],
  ['docker.io/library/busybox:1.36', writeBusybox],
  ['docker.io/library/nginx:1.22', writeNginx],
  ['docker.io/curlimages/curl:7.88.1', writeCurl],
  ['docker.io/library/postgres:15', writePostgres],
  ...(wanted.has('java') ? ([['registry.example.org/whoami-java:1.0', writeJava]] as const) : []),
  ...(wanted.has('python') ? ([['registry.example.org/whoami-python:1.0', writePython]] as const) : []),
  ...(wanted.has('rust') ? ([['registry.example.org/whoami-rust:1.0', writeRust]] as const) : []),
];

/** Pages with a server and a client, the command in their images, and what a client says of a server that it did not expect. */
const PROGRAMS = [
  { page: 'workloads/go.md', command: ['/whoami'], unexpected: `unexpected ID "${GREETER}"` },
  { page: 'workloads/node.md', command: ['/usr/bin/node', '/app/whoami.mjs'], unexpected: GREETER },
  {
    page: 'workloads/java.md',
    command: JAVA_COMMAND,
    unexpected: `${GREETER} in X.509 certificate is not accepted`,
  },
].filter(({ page }) => page !== 'workloads/java.md' || wanted.has('java'));

interface KubernetesObject {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: Readonly<Record<string, unknown>>;
}

const objectsOf = (page: string): readonly KubernetesObject[] =>
  parseAllDocuments(manifestOf(page)).map((one) => one.toJS() as KubernetesObject);

interface Authority {
  readonly kind: string;
  readonly slot: string;
  readonly id: string;
}

interface Server {
  readonly pod: string;
  readonly namespace: string;
  readonly port: number;
  /** How it comes to TLS: options of `openssl s_client`. */
  readonly tls?: readonly string[];
}
const SERVERS: readonly Server[] = [
  { pod: 'greeter', namespace: 'hello', port: 8443 },
  { pod: 'web', namespace: 'shop', port: 8443 },
  { pod: 'db', namespace: 'orders', port: 5432, tls: ['-starttls', 'postgres'] },
];

(isSkipped('node') ? describe.skip : describe)('the pages of docs/workloads', () => {
  let world: NodeWorld;

  beforeAll(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'workloads-'));
    try {
      const images = IMAGES.map((_, index) => join(folder, `${index}.tar`));
      for (const [index, [name, write]] of IMAGES.entries())
        await write(images[index] ?? '', name, await mkdtemp(join(folder, 'work-')));
      world = await startNodeWorld({ images });
    } finally {
      await rm(folder, { recursive: true });
    }
    await apply('workloads/socket.md');
  }, rigTimeout);
  afterAll(() => world.close());

  /** Applies what a page shows: all of it, or one pod. */
  async function apply(page: string, pod?: string): Promise<void> {
    const chosen = objectsOf(page).filter(
      ({ kind, metadata: { name } }) => pod === undefined || (kind === 'Pod' && name === pod),
    );
    expect(chosen).not.toEqual([]);
    await world.apply(...chosen.map((one) => ({ ...one })));
  }
  /** Pages have pods of the same names. */
  const nobodyInHello = (): Promise<string> =>
    world.kubectl('delete', 'pods', '--all', '--namespace=hello', '--grace-period=1');
  /** What the caller of a page says when it has called the greeter that is there. */
  async function callBy(page: string): Promise<string> {
    await apply(page, 'caller');
    await world.podIs('Succeeded', 'caller', 'hello');
    const said = await world.podLogs('caller', 'hello');
    await world.deletePod('caller', 'hello');
    return said;
  }
  const addressOf = (pod: string, namespace: string): Promise<string> =>
    world.kubectl('get', 'pod', pod, `--namespace=${namespace}`, '--output=jsonpath={.status.podIP}');
  /** The certificate that a server shows. Nothing is verified: what it shows is what is asked. */
  async function certificateOf({ pod, namespace, port, tls = [] }: Server): Promise<X509Certificate> {
    const where = `${await addressOf(pod, namespace)}:${port}`;
    const asked = run('openssl', ['s_client', '-connect', where, ...tls], { timeout: 10_000 });
    asked.child.stdin?.end();
    // Servers end the connection for want of a certificate of ours, which openssl calls a failure.
    const { stdout } = await asked.catch((error: unknown) => error as { readonly stdout: string });
    const pem = /-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/.exec(stdout)?.[0];
    if (pem === undefined) throw new Error(`${pod} shows no certificate: ${stdout}`);
    return new X509Certificate(pem);
  }
  const ca = async (...args: string[]): Promise<readonly Authority[]> => {
    const command = [join(root, 'bin', 'signet'), 'ca', ...args, '--output=json'];
    const { stdout } = await run(process.execPath, [...command, `--kubeconfig=${world.cluster.kubeconfig}`]);
    return (JSON.parse(stdout) as { readonly authorities: readonly Authority[] }).authorities;
  };
  const psql = (
    user: string,
    options: string,
  ): Promise<{ readonly code: number | null; readonly stderr: string }> => {
    const files = 'sslrootcert=/run/spiffe/ca.crt sslkey=/run/spiffe/tls.key';
    const where = `host=db.orders.svc dbname=postgres user=${user} ${files} ${options}`;
    return world.exec('db', ['psql', where, '-c', 'select 1'], 'orders');
  };

  describe.each(PROGRAMS)('$page', ({ page, command, unexpected }) => {
    it('has a server and a client that know each other', async () => {
      await nobodyInHello();
      await apply(page, 'greeter');
      await world.podIs('Ready', 'greeter', 'hello');
      const said = await callBy(page);
      expect(said).toMatch(new RegExp(`^I am ${CALLER} until \\d{4}-.*Z$`, 'm'));
      expect(said).toContain(`hello ${CALLER}\n`);
      expect(await world.podLogs('greeter', 'hello')).toContain(`I am ${GREETER} until `);
    });

    it('lets nobody else in, and greets nobody else', async () => {
      const call = (server: string): ReturnType<NodeWorld['exec']> =>
        world.exec('greeter', [...command, 'call', 'https://greeter:8443', server], 'hello');
      // From the greeter's own pod, whom the greeter does not expect.
      const asItself = await call(GREETER);
      expect(asItself.code).not.toBe(0);
      expect(asItself.stdout).toContain(`I am ${GREETER}`);
      expect(asItself.stdout).not.toContain('hello spiffe');
      const toAnother = await call(`${GREETER}-of-old`);
      expect(toAnother.code).not.toBe(0);
      expect(toAnother.stdout + toAnother.stderr).toContain(unexpected);
    });
  });

  (wanted.has('python') ? it : it.skip)('workloads/python.md calls a greeter', async () => {
    await nobodyInHello();
    await apply('workloads/go.md', 'greeter');
    await world.podIs('Ready', 'greeter', 'hello');
    const said = await callBy('workloads/python.md');
    expect(said).toContain(`I am ${CALLER} until `);
    expect(said).toContain(`hello ${CALLER}\n`);
  });

  (wanted.has('rust') ? it : it.skip)('workloads/rust.md has its SVID', async () => {
    await nobodyInHello();
    await apply('workloads/rust.md');
    await world.podIs('Ready', 'caller', 'hello');
    await until('its SVID', async () =>
      (await world.podLogs('caller', 'hello')).includes(`I am ${CALLER}, 1 certificate(s)\n`),
    );
  });

  it('workloads/envoy.md puts Envoy before a program, for one caller', async () => {
    await nobodyInHello();
    await apply('workloads/envoy.md');
    await world.podIs('Ready', 'greeter', 'hello');
    expect(await callBy('workloads/go.md')).toContain('hello from behind Envoy');
    const stranger = objectsOf('workloads/go.md').find(
      ({ kind, metadata }) => kind === 'Pod' && metadata.name === 'caller',
    );
    const spec = { ...stranger?.spec, serviceAccountName: 'greeter', restartPolicy: 'Never' };
    await world.apply({ ...stranger, metadata: { name: 'stranger', namespace: 'hello' }, spec });
    await world.podIs('Failed', 'stranger', 'hello');
    const said = await world.podLogs('stranger', 'hello');
    expect(said).toContain(`I am ${GREETER}`);
    expect(said).not.toContain('hello from');
  });

  it('workloads/nginx.md takes workloads of the trust domain, and knows their names', async () => {
    await apply('workloads/nginx.md');
    await world.podIs('Succeeded', 'client', 'shop');
    const [shown = ''] = blocksOf('workloads/nginx.md', '');
    expect(await world.podLogs('client', 'shop')).toContain(shown);
    const url = `https://${await addressOf('web', 'shop')}:8443/`;
    const { stdout } = await run('curl', ['--silent', '--insecure', url]);
    expect(stdout).toContain('No required SSL certificate was sent');
  });

  it('workloads/postgresql.md knows the database user by the certificate alone', async () => {
    await apply('workloads/postgresql.md');
    await world.podIs('Succeeded', 'app', 'orders');
    const [shown = ''] = blocksOf('workloads/postgresql.md', '');
    expect(await world.podLogs('app', 'orders')).toContain(shown);
    const asAnother = await psql('app', 'sslmode=verify-full sslcert=/run/spiffe/tls.crt');
    expect(asAnother.code).toBe(2);
    expect(asAnother.stderr).toContain('certificate authentication failed for user "app"');
    const asNobody = await psql('app', 'sslmode=require sslcert=/tmp/none');
    expect(asNobody.stderr).toContain('connection requires a valid client certificate');
  });

  it('all have certificates of a new authority, without a restart', async () => {
    const before = await Promise.all(SERVERS.map(certificateOf));
    expect(before.map(({ subjectAltName }) => subjectAltName)).toEqual([
      `URI:${GREETER}`,
      'URI:spiffe://example.org/ns/shop/sa/web, DNS:web.shop.svc',
      'URI:spiffe://example.org/ns/orders/sa/db, DNS:db.orders.svc',
    ]);
    const former = (await ca('show')).find(({ kind, slot }) => kind === 'X509' && slot === 'Active');
    await ca('rotate', '--kind=x509');
    await ca('taint', former?.id ?? '');
    for (const [index, server] of SERVERS.entries()) {
      await until(
        `${server.pod} with another certificate`,
        async () => (await certificateOf(server)).issuer !== before[index]?.issuer,
        60_000,
      );
      const { status } = await world.pod(server.pod, server.namespace);
      expect(status.containerStatuses?.filter(({ restartCount }) => restartCount > 0)).toEqual([]);
    }
  });
});
