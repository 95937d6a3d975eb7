import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  appendFileSync,
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { silentLogger } from '../../lib/logger.js';
import type { StoreChange } from '../store.js';
import type { FolderStore } from './folder-store.js';
import { openFolderStore } from './folder-store.js';

const identity = (name: string, hint = 'h'): string => `apiVersion: signet.dev/v1alpha1
kind: WorkloadIdentity
metadata:
  name: ${name}
  namespace: payments
spec:
  hint: ${hint}
`;

const account = (name: string): string => `apiVersion: v1
kind: ServiceAccount
metadata:
  name: ${name}
  namespace: payments
`;

describe('the folder store', () => {
  let folder: string;
  let clock: FakeClock;
  let store: FolderStore | undefined;
  let batches: (readonly StoreChange[])[];
  let wakers: (() => void)[];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'signet-folder-'));
    clock = new FakeClock();
    batches = [];
    wakers = [];
  });

  afterEach(() => {
    store?.close();
    store = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  const file = (name: string): string => join(folder, name);
  const write = (name: string, text: string): void => writeFileSync(file(name), text);

  async function open(path = folder, limits = {}): Promise<FolderStore> {
    store = await openFolderStore({ path, clock, logger: silentLogger, nodeName: 'node-1', limits });
    const wake = (): void => {
      for (const waker of wakers.splice(0)) waker();
    };
    store.subscribe((changes) => {
      batches.push(changes);
      wake();
    });
    store.problems.watch(wake);
    return store;
  }

  /** Waits until a fact holds; looks again whenever the store says something. */
  async function until(fact: () => boolean): Promise<void> {
    while (!fact()) await new Promise<void>((resolve) => wakers.push(resolve));
  }

  const names = (kind: string): string[] =>
    (store?.list(kind) ?? []).map(({ metadata }) => metadata.name).sort();
  const hintOf = (name: string): unknown =>
    (store?.get('WorkloadIdentity', `payments/${name}`) as { spec?: { hint?: string } } | undefined)?.spec
      ?.hint;
  const changes = (): string[] =>
    batches.flat().map(({ kind, key, before, after }) => {
      const what = before === undefined ? 'added' : after === undefined ? 'removed' : 'changed';
      return `${what} ${kind} ${key}`;
    });
  /** Moves on to where a file that looked half-written is believed. */
  async function rest(): Promise<void> {
    await clock.armed(2);
    await clock.advance(60);
  }

  it('reads YAML with many documents, JSON and lists, in all folders below', async () => {
    mkdirSync(file('deep/er'), { recursive: true });
    write('a.yaml', `# comment\n---\n${identity('web')}---\n${account('web')}`);
    write('b.yml', account('b'));
    write(
      'deep/er/c.json',
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'List',
        items: [{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'c' } }],
      }),
    );
    write('notes.txt', 'kind: Pod');
    write('.hidden.yaml', account('hidden'));
    await open();
    expect(names('WorkloadIdentity')).toEqual(['web']);
    expect(names('ServiceAccount')).toEqual(['b', 'c', 'web']);
    expect(store?.synced.value).toBe(true);
    expect(store?.problems.value).toEqual([]);
    expect(store?.get('ServiceAccount', 'default/c')?.metadata).toMatchObject({
      namespace: 'default',
      generation: 1,
    });
  });

  it('takes one file instead of a folder', async () => {
    write('one.yaml', identity('web'));
    write('two.yaml', identity('other'));
    await open(file('one.yaml'));
    expect(names('WorkloadIdentity')).toEqual(['web']);
    write('one.yaml', identity('web', 'new'));
    await until(() => hintOf('web') === 'new');
  });

  it('refuses a path that is not there', async () => {
    await expect(open(file('nowhere'))).rejects.toMatchObject({
      code: 'FolderUnreadable',
      message: expect.stringContaining('does not exist'),
    });
  });

  it('lets namespaces exist that are only used, and takes declared labels when there are some', async () => {
    write('a.yaml', account('web'));
    await open();
    expect(store?.get('Namespace', 'payments')?.metadata.labels).toEqual({
      'kubernetes.io/metadata.name': 'payments',
    });
    write(
      'ns.yaml',
      'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: payments\n  labels:\n    team: blue\n',
    );
    await until(() => store?.get('Namespace', 'payments')?.metadata.labels?.['team'] === 'blue');
    unlinkSync(file('ns.yaml'));
    await rest();
    await until(() => store?.get('Namespace', 'payments')?.metadata.labels?.['team'] === undefined);
    unlinkSync(file('a.yaml'));
    await rest();
    await until(() => store?.get('Namespace', 'payments') === undefined);
    expect(changes()).toEqual([
      'changed Namespace payments',
      'changed Namespace payments',
      'removed Namespace payments',
      'removed ServiceAccount payments/web',
    ]);
  });

  it('tells of one edit once, with a new generation, and of no edit that changes nothing', async () => {
    write('a.yaml', `${identity('web')}---\n${identity('db')}`);
    await open();
    write('a.yaml', `# same\n${identity('web')}---\n${identity('db', 'changed')}`);
    await until(() => hintOf('db') === 'changed');
    write('a.yaml', `${identity('web', 'x')}---\n${identity('db', 'changed')}`);
    await until(() => hintOf('web') === 'x');
    expect(changes()).toEqual([
      'changed WorkloadIdentity payments/db',
      'changed WorkloadIdentity payments/web',
    ]);
    expect(store?.get('WorkloadIdentity', 'payments/db')?.metadata.generation).toBe(2);
  });

  it('tells of an edit without any timer', async () => {
    write('a.yaml', identity('web'));
    await open();
    const timers = clock.timers;
    write('a.yaml', identity('web', 'fast'));
    await until(() => hintOf('web') === 'fast');
    // The fake clock never moved: nothing in the way waits for time.
    expect(clock.timers).toBe(timers);
  });

  it('follows a file that is renamed over another, as editors and kubectl do', async () => {
    write('a.yaml', identity('web'));
    await open();
    write('.a.yaml.swp', identity('web', 'renamed'));
    renameSync(file('.a.yaml.swp'), file('a.yaml'));
    await until(() => hintOf('web') === 'renamed');
    // vim: move the old one away, write a new one.
    renameSync(file('a.yaml'), file('a.yaml~'));
    write('a.yaml', identity('web', 'vim'));
    await until(() => hintOf('web') === 'vim');
    expect(changes().every((change) => change.startsWith('changed'))).toBe(true);
  });

  it('never lets objects vanish while a file is being written', async () => {
    const both = `${identity('web')}---\n${identity('db')}`;
    write('a.yaml', both);
    await open();
    truncateSync(file('a.yaml'), 0);
    await clock.armed(2);
    const handle = openSync(file('a.yaml'), 'w');
    writeSync(handle, both.slice(0, 30));
    await clock.advance(30);
    writeSync(handle, both.slice(30, identity('web').length));
    await clock.advance(30);
    writeSync(handle, both.slice(identity('web').length).replace('hint: h', 'hint: done'));
    closeSync(handle);
    await until(() => hintOf('db') === 'done');
    await clock.advance(2_000);
    expect(changes()).toEqual(['changed WorkloadIdentity payments/db']);
    expect(store?.problems.value).toEqual([]);
  });

  it('does not take half a line for a whole one', async () => {
    write('a.yaml', identity('web', 'long-hint'));
    await open();
    write('a.yaml', identity('web', 'long-hint').slice(0, -6));
    await clock.armed(2);
    expect(hintOf('web')).toBe('long-hint');
    await rest();
    await until(() => hintOf('web') === 'long');
    expect(changes()).toHaveLength(1);
  });

  it('believes a writer that never rests after a second', async () => {
    write('a.yaml', identity('web'));
    await open();
    truncateSync(file('a.yaml'), 0);
    await clock.armed(2);
    const started = clock.monotonic();
    for (;;) {
      appendFileSync(file('a.yaml'), '#');
      // The write was heard once the wait has begun anew.
      while (clock.nextIn !== 50 && names('WorkloadIdentity').length > 0) await settle();
      if (names('WorkloadIdentity').length === 0) break;
      await clock.advance(40);
    }
    expect(clock.monotonic() - started).toBe(1_000);
  });

  it('drops what is deleted, with its status', async () => {
    write('a.yaml', identity('web'));
    write('b.yaml', identity('db'));
    await open();
    await store?.writeStatus('WorkloadIdentity', 'payments/web', { podsSelected: 1 });
    expect(store?.status('WorkloadIdentity', 'payments/web')).toEqual({ podsSelected: 1 });
    unlinkSync(file('a.yaml'));
    await rest();
    await until(() => names('WorkloadIdentity').length === 1);
    expect(changes()).toEqual(['removed WorkloadIdentity payments/web']);
    expect(store?.status('WorkloadIdentity', 'payments/web')).toBeUndefined();
    await store?.writeStatus('WorkloadIdentity', 'payments/web', { podsSelected: 1 });
    expect(store?.status('WorkloadIdentity', 'payments/web')).toBeUndefined();
  });

  it('keeps a file that moves to another name without a change', async () => {
    write('b.yaml', identity('web'));
    await open();
    renameSync(file('b.yaml'), file('a.yaml'));
    await rest();
    await settle();
    write('c.yaml', identity('marker'));
    await until(() => hintOf('marker') === 'h');
    expect(changes()).toEqual(['added WorkloadIdentity payments/marker']);
    expect(store?.problems.value).toEqual([]);
  });

  it('keeps the last good version of a document that breaks, and everything around it', async () => {
    write('a.yaml', `${identity('web')}---\n${identity('db')}---\n${identity('api')}`);
    write('b.yaml', identity('other'));
    await open();
    write(
      'a.yaml',
      `${identity('web', 'new')}---\n${identity('db').replace('spec:', 'spec: [')}---\n${identity('api', 'new')}`,
    );
    await rest();
    await until(() => store?.problems.value.length === 1);
    expect(names('WorkloadIdentity')).toEqual(['api', 'db', 'other', 'web']);
    expect([hintOf('web'), hintOf('db'), hintOf('api')]).toEqual(['new', 'h', 'new']);
    expect(store?.problems.value[0]).toMatchObject({
      file: file('a.yaml'),
      severity: 'error',
      object: 'WorkloadIdentity payments/db',
      message: expect.stringContaining(
        'the last good version of WorkloadIdentity payments/db stays in force',
      ),
    });
    expect(store?.problems.value[0]?.line).toBeGreaterThan(8);
    write(
      'a.yaml',
      `${identity('web', 'new')}---\n${identity('db', 'mended')}---\n${identity('api', 'new')}`,
    );
    await until(() => store?.problems.value.length === 0);
    expect(hintOf('db')).toBe('mended');
  });

  it('keeps the last good version of an object that becomes invalid', async () => {
    write('a.yaml', identity('web'));
    await open();
    write('a.yaml', identity('web', 'new').replace('hint:', 'hnt:'));
    await until(() => store?.problems.value.length === 1);
    expect(hintOf('web')).toBe('h');
    expect(store?.problems.value[0]).toEqual({
      file: file('a.yaml'),
      line: 7,
      column: 3,
      severity: 'error',
      object: 'WorkloadIdentity payments/web',
      path: 'spec.hnt',
      message:
        'there is no field "hnt" (the last good version of WorkloadIdentity payments/web stays in force)',
      fix: 'did you mean hint?',
    });
    expect(batches).toEqual([]);
    // Another edit of the file leaves it so.
    write('a.yaml', `${identity('web', 'newer').replace('hint:', 'hnt:')}---\n${identity('db')}`);
    await until(() => hintOf('db') === 'h');
    expect(hintOf('web')).toBe('h');
    write('a.yaml', identity('web', 'mended') + '---\n' + identity('db'));
    await until(() => hintOf('web') === 'mended');
    await until(() => store?.problems.value.length === 0);
  });

  it('says what is wrong between files', async () => {
    write(
      'td.yaml',
      'apiVersion: signet.dev/v1alpha1\nkind: TrustDomain\nmetadata:\n  name: td\nspec:\n  name: example.org\n',
    );
    write('a.yaml', `# first\n${account('x')}---\n${identity('web').replace('hint: h', 'x509TTL: 48h')}`);
    await open();
    expect(names('WorkloadIdentity')).toEqual(['web']);
    expect(store?.problems.value).toMatchObject([
      {
        file: file('a.yaml'),
        line: 14,
        column: 3,
        path: 'spec.x509TTL',
        object: 'WorkloadIdentity payments/web',
      },
    ]);
    write(
      'td.yaml',
      'apiVersion: signet.dev/v1alpha1\nkind: TrustDomain\nmetadata:\n  name: td\nspec:\n  name: example.org\n  ttls:\n    authority: 72h\n',
    );
    await until(() => store?.problems.value.length === 0);
  });

  it('leaves out a new object that is broken, and says where', async () => {
    write('a.yaml', identity('web'));
    await open();
    write(
      'b.yaml',
      `${identity('good')}---\napiVersion: signet.dev/v1alpha1\nkind: WorkloadIdentity\nmetadata:\n  name: Bad_Name\nspec: {}\n`,
    );
    await until(() => store?.problems.value.length === 1);
    expect(names('WorkloadIdentity')).toEqual(['good', 'web']);
    expect(store?.problems.value[0]).toMatchObject({
      file: file('b.yaml'),
      line: 12,
      column: 3,
      path: 'metadata.name',
      object: 'WorkloadIdentity default/Bad_Name',
    });
  });

  it('names a kind that was meant', async () => {
    write('a.yaml', identity('web').replace('WorkloadIdentity', 'WorkloadIdentiy'));
    write('b.yaml', identity('web').replace('signet.dev/v1alpha1', 'signet.io/v1'));
    write('c.yaml', identity('web').replace('v1alpha1', 'v2'));
    write('d.yaml', 'metadata:\n  name: x\nspec: {}\n');
    write('e.yaml', 'just text\n');
    write('values.yaml', 'replicas: 3\n');
    await open();
    expect(store?.problems.value.map(({ severity, message, fix }) => [severity, message, fix])).toEqual([
      ['error', 'Signet has no kind "WorkloadIdentiy"', 'did you mean WorkloadIdentity?'],
      [
        'warning',
        'apiVersion "signet.io/v1" is not Signet\'s, so this WorkloadIdentity is ignored',
        'write apiVersion: signet.dev/v1alpha1',
      ],
      ['error', 'version "signet.dev/v2" is unknown', 'write apiVersion: signet.dev/v1alpha1'],
      ['warning', 'this document has no kind; it is ignored', undefined],
      ['warning', 'this document is no object; it is ignored', undefined],
    ]);
    expect(names('WorkloadIdentity')).toEqual([]);
  });

  it('holds the object of the file that sorts first when two declare it', async () => {
    write('b.yaml', identity('web', 'b'));
    write('c.yaml', `${identity('web', 'c1')}---\n${identity('web', 'c2')}`);
    await open();
    expect(hintOf('web')).toBe('b');
    expect(store?.problems.value.map(({ file: at, line, message }) => [at, line, message])).toEqual([
      [
        file('c.yaml'),
        4,
        `WorkloadIdentity payments/web is declared in ${file('b.yaml')} too, and that one is in force`,
      ],
      [
        file('c.yaml'),
        12,
        'WorkloadIdentity payments/web is declared twice in this file; the first is in force',
      ],
    ]);
    write('a.yaml', identity('web', 'a'));
    await until(() => hintOf('web') === 'a');
    unlinkSync(file('a.yaml'));
    unlinkSync(file('b.yaml'));
    await clock.armed(3);
    await clock.advance(60);
    await until(() => hintOf('web') === 'c1');
    expect(changes().every((change) => change === 'changed WorkloadIdentity payments/web')).toBe(true);
  });

  it('runs the pods of workloads on its node', async () => {
    write(
      'a.yaml',
      `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: payments
spec:
  replicas: 2
  template:
    metadata:
      labels:
        app: web
    spec:
      serviceAccountName: web
      containers:
        - name: main
          image: web:1
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: log
spec:
  template:
    spec:
      containers: []
---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: tick
spec:
  jobTemplate:
    spec:
      template:
        metadata:
          labels:
            app: tick
        spec: {}
---
apiVersion: v1
kind: Pod
metadata:
  name: lone
  uid: copied
spec:
  nodeName: elsewhere
status:
  podIP: 10.0.0.9
`,
    );
    await open();
    expect(names('Pod')).toEqual(['log-0', 'lone', 'tick-0', 'web-0', 'web-1']);
    const web = store?.get('Pod', 'payments/web-1');
    expect(web).toMatchObject({
      metadata: { labels: { app: 'web' }, ownerReferences: [{ kind: 'Deployment', name: 'web' }] },
      spec: { serviceAccountName: 'web', nodeName: 'node-1' },
      status: { phase: 'Running' },
    });
    expect(web?.metadata.uid).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    const lone = store?.get('Pod', 'default/lone');
    expect(lone).toMatchObject({
      spec: { nodeName: 'elsewhere', serviceAccountName: 'default' },
      status: { phase: 'Running', podIP: '10.0.0.9' },
    });
    expect(lone?.metadata.uid).not.toBe('copied');
    expect(store?.get('Pod', 'default/log-0')).toMatchObject({ spec: { serviceAccountName: 'default' } });
  });

  it('sees the swap of a mounted ConfigMap, and reads each real file once', async () => {
    mkdirSync(file('..v1'));
    write('..v1/a.yaml', identity('web', 'v1'));
    symlinkSync('..v1', file('..data'));
    symlinkSync('..data/a.yaml', file('a.yaml'));
    symlinkSync('a.yaml', file('z.yaml'));
    await open();
    expect(hintOf('web')).toBe('v1');
    expect(store?.problems.value).toEqual([]);
    mkdirSync(file('..v2'));
    write('..v2/a.yaml', identity('web', 'v2'));
    symlinkSync('..v2', file('..data_tmp'));
    renameSync(file('..data_tmp'), file('..data'));
    rmSync(file('..v1'), { recursive: true });
    await until(() => hintOf('web') === 'v2');
    await clock.advance(100);
    expect(changes()).toEqual(['changed WorkloadIdentity payments/web']);
  });

  it('sees the swap of the folder itself, as git-sync does it', async () => {
    for (const version of ['one', 'two']) {
      mkdirSync(file(version));
      write(`${version}/a.yaml`, identity('web', version));
    }
    symlinkSync('one', file('current'));
    await open(file('current'));
    expect(hintOf('web')).toBe('one');
    symlinkSync('two', file('next'));
    renameSync(file('next'), file('current'));
    await until(() => hintOf('web') === 'two');
    // The new folder is watched now, not the old one.
    write('two/a.yaml', identity('web', 'three'));
    await until(() => hintOf('web') === 'three');
  });

  it('does not follow links out of the folder', async () => {
    const outside = mkdtempSync(join(tmpdir(), 'signet-outside-'));
    try {
      writeFileSync(join(outside, 'secret.yaml'), identity('outside'));
      symlinkSync(join(outside, 'secret.yaml'), file('a.yaml'));
      symlinkSync(outside, file('folder'));
      symlinkSync('.', file('loop'));
      write('b.yaml', identity('web'));
      await open();
      expect(names('WorkloadIdentity')).toEqual(['web']);
      expect(store?.problems.value.map(({ file: at }) => at)).toEqual([file('a.yaml'), file('folder')]);
      // Nor when a file that was read becomes such a link.
      symlinkSync(join(outside, 'secret.yaml'), file('.tmp'));
      renameSync(file('.tmp'), file('b.yaml'));
      await rest();
      await until(() => names('WorkloadIdentity').length === 0);
    } finally {
      rmSync(outside, { recursive: true });
    }
  });

  it('watches folders that come later', async () => {
    write('a.yaml', identity('web'));
    await open();
    mkdirSync(file('new/deep'), { recursive: true });
    write('new/deep/b.yaml', identity('db'));
    await until(() => hintOf('db') === 'h');
    write('new/deep/b.yaml', identity('db', 'again'));
    await until(() => hintOf('db') === 'again');
    rmSync(file('new'), { recursive: true });
    await rest();
    await until(() => hintOf('db') === undefined);
  });

  it('keeps what was in force when the whole folder goes away', async () => {
    const inner = file('inner');
    mkdirSync(inner);
    write('inner/a.yaml', identity('web'));
    await open(inner);
    renameSync(inner, file('moved'));
    await until(() => (store?.problems.value.length ?? 0) > 0);
    expect(store?.problems.value[0]?.message).toContain('what it held stays in force');
    expect(hintOf('web')).toBe('h');
    renameSync(file('moved'), inner);
    await until(() => store?.problems.value.length === 0);
    write('inner/a.yaml', identity('web', 'back'));
    await until(() => hintOf('web') === 'back');
  });

  it('bounds files, sizes and depth, and says what it leaves out', async () => {
    write('a.yaml', identity('web'));
    write('big.yaml', `# ${'x'.repeat(2_000)}\n`);
    mkdirSync(file('d1/d2/d3'), { recursive: true });
    write('d1/d2/d3/deep.yaml', identity('deep'));
    write('z.yaml', identity('late'));
    await open(folder, { maxFiles: 2, maxFileBytes: 1_000, maxDepth: 2 });
    expect(names('WorkloadIdentity')).toEqual(['web']);
    const messages = store?.problems.value.map(({ message }) => message) ?? [];
    expect(messages).toEqual([
      expect.stringContaining('at most 1000 are read'),
      expect.stringContaining('more than 2 folders deep'),
      expect.stringContaining('at most 2 files are'),
    ]);
  });

  it('says that a file is no text, and keeps what it held', async () => {
    write('a.yaml', identity('web'));
    await open();
    writeFileSync(file('a.yaml'), Buffer.from([0xff, 0xfe, 0x00, 0x0a]));
    await rest();
    await until(() => store?.problems.value.length === 1);
    expect(store?.problems.value[0]?.message).toBe('is not UTF-8 text; what it held stays in force');
    expect(hintOf('web')).toBe('h');
  });

  it('finds by its slow rescan what no event told', async () => {
    const outside = mkdtempSync(join(tmpdir(), 'signet-outside-'));
    try {
      write('a.yaml', identity('web'));
      await open();
      // The kernel tells of a write in the folder by whose name it was made, and of no other.
      linkSync(file('a.yaml'), join(outside, 'a.yaml'));
      writeFileSync(join(outside, 'a.yaml'), identity('web', 'unheard'));
      await settle();
      expect(hintOf('web')).toBe('h');
      await clock.advance(30_000);
      await until(() => hintOf('web') === 'unheard');
    } finally {
      rmSync(outside, { recursive: true });
    }
  });

  it('leaves no timer and hears nothing once it is closed', async () => {
    write('a.yaml', identity('web'));
    const opened = await open();
    truncateSync(file('a.yaml'), 0);
    await clock.armed(2);
    opened.close();
    expect(clock.timers).toBe(0);
    write('a.yaml', identity('web', 'late'));
    await settle();
    expect(changes()).toEqual([]);
    expect(hintOf('web')).toBe('h');
  });

  it('keeps the other subscribers when one throws', async () => {
    write('a.yaml', identity('web'));
    const opened = await open();
    let seen = 0;
    opened.subscribe(() => {
      throw new Error('reader');
    });
    const end = opened.subscribe(() => {
      seen++;
    });
    write('a.yaml', identity('web', 'x'));
    await until(() => hintOf('web') === 'x');
    await settle();
    expect(seen).toBe(1);
    end();
    write('a.yaml', identity('web', 'y'));
    await until(() => hintOf('web') === 'y');
    expect(seen).toBe(1);
  });
});
