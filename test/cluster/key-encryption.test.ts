import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { makeKey } from '../../src/agent/key-maker.js';
import { parseCertificate } from '../../src/identity/pki/certificate.js';
import type { TrustDomainSpec } from '../../src/resources/identity.js';
import { start } from '../e2e/support/process.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { signetCommand } from '../e2e/support/signet.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  boundPod,
  makePod,
  prepareWorkloads,
  startClusterAgent,
  type ClusterAgent,
} from '../support/cluster-agents.js';
import {
  conditionOf,
  prepareCluster,
  SECRETS,
  startClusterServer,
  SYSTEM,
  TRUST_DOMAINS,
  trustDomainStatusOf,
  type ClusterServer,
} from '../support/cluster-server.js';
import { KmsPluginProgram } from '../support/kms-plugin.js';
import { until } from '../support/until.js';

/* The key that seals authority keys is changed while servers sign. */

const LONG = 180_000;
const WAIT = 60_000;
const TRUST_DOMAIN = 'sealed.test';
const LEASE = `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`;

type Named = NonNullable<TrustDomainSpec['keyEncryption']>;

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the key that seals the authorities', () => {
  let plane: ControlPlane;
  let scope: Scope;
  let servers: ClusterServer[] = [];
  let plugins: KmsPluginProgram[] = [];
  let closers: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    plane = await startControlPlane();
  }, rig.rigTimeout);
  afterAll(() => plane?.close());
  beforeEach(async () => {
    scope = newScope();
    [servers, plugins, closers] = [[], [], []];
    await prepareCluster(plane, TRUST_DOMAIN);
  });
  afterEach(async () => {
    for (const close of closers) await close();
    await Promise.all(servers.map((server) => server.stop()));
    await scope.end();
    await Promise.all(plugins.map((plugin) => plugin.stop()));
    await plane.request('DELETE', `${TRUST_DOMAINS}/main`);
    for (const name of ['signet-ca', 'signet-key-encryption'])
      await plane.request('DELETE', `${SECRETS}/${name}`);
    await plane.request('DELETE', LEASE);
  });

  const launch = (identity: string): ClusterServer => {
    const server = startClusterServer(plane, identity);
    servers.push(server);
    return server;
  };
  const aFile = async (name: string): Promise<Named> => {
    const keyFile = join(scope.folder(), name);
    await writeFile(keyFile, randomBytes(32));
    return { local: { keyFile } };
  };
  const aKms = async (): Promise<{ readonly place: Named; readonly plugin: KmsPluginProgram }> => {
    const plugin = new KmsPluginProgram();
    plugins.push(plugin);
    const socket = join(scope.folder(), 'kms.sock');
    await plugin.start(socket);
    return { place: { kms: { socket } }, plugin };
  };
  /** Writes it in place of what is there. */
  const write = async (keyEncryption: Named | undefined): Promise<{ status: number; text: string }> => {
    const nothing = { local: null, kms: null, builtIn: null };
    const previous = keyEncryption?.previous && { ...nothing, ...keyEncryption.previous };
    const value = keyEncryption && { ...nothing, ...keyEncryption, previous: previous ?? null };
    const { status, body } = await plane.request('PATCH', `${TRUST_DOMAINS}/main`, {
      spec: { keyEncryption: value ?? null },
    });
    return { status, text: JSON.stringify(body) };
  };
  const untilCondition = (type: string, wanted: string): Promise<true> =>
    until(
      `${type} is ${wanted}`,
      async () => (await conditionOf(plane, type)) === wanted && (await isObserved(type)),
      WAIT,
    );
  const isObserved = async (type: string): Promise<boolean> => {
    const { body } = await plane.request('GET', `${TRUST_DOMAINS}/main`);
    const { metadata, status } = body as {
      readonly metadata: { readonly generation: number };
      readonly status: { readonly conditions: readonly { type: string; observedGeneration?: number }[] };
    };
    return status.conditions.find((one) => one.type === type)?.observedGeneration === metadata.generation;
  };
  const untilSealed = (): Promise<true> => untilCondition('KeysSealed', 'True Sealed');
  const messageOf = async (wanted: string): Promise<string> =>
    (await trustDomainStatusOf(plane)).conditions?.find(({ type }) => type === wanted)?.message ?? '';
  /** What each key file says of what sealed it: of a KMS the key of its own, too. */
  const sealedBy = async (): Promise<string[]> => {
    const { body } = await plane.request('GET', `${SECRETS}/signet-ca`);
    const { data } = body as { readonly data: Readonly<Record<string, string>> };
    const found = Object.entries(data).flatMap(([name, text]) => {
      if (!name.endsWith('.key')) return [];
      const file = JSON.parse(Buffer.from(text, 'base64').toString()) as Readonly<Record<string, string>>;
      expect(file).not.toHaveProperty('pkcs8');
      const { kek = '', dek = '' } = file;
      if (kek !== 'kms:v2') return [kek];
      return [`kms:${(JSON.parse(Buffer.from(dek, 'base64').toString()) as string[])[0] ?? ''}`];
    });
    return [...new Set(found)].sort();
  };
  const active = async (): Promise<readonly string[]> => {
    const { authorities = [] } = await trustDomainStatusOf(plane);
    return authorities.filter(({ slot }) => slot === 'Active').map(({ id }) => id);
  };
  let requests = 0;
  const rotate = async (): Promise<void> => {
    const before = await active();
    const nonce = `n${++requests}`;
    const request = JSON.stringify({ action: 'rotate', nonce });
    await plane.kubectl([
      'annotate',
      'trustdomain',
      'main',
      '--overwrite',
      `signet.dev/ca-request=${request}`,
    ]);
    const handled = await until(
      'it is rotated',
      async () => {
        const { request: told } = await trustDomainStatusOf(plane);
        return told?.nonce === nonce && told.outcome !== 'Running' ? told : undefined;
      },
      WAIT,
    );
    expect(handled).toMatchObject({ outcome: 'Succeeded' });
    await until('the status tells', async () => (await active()).every((id) => !before.includes(id)), WAIT);
  };

  /** Two replicas, each with an agent that has it sign without a pause. */
  const startSigning = async (): Promise<{
    /** Until every replica has signed with what is active now. */
    readonly untilAllSignWithPresent: () => Promise<void>;
    readonly failures: string[];
    readonly signed: () => number;
  }> => {
    const failures: string[] = [];
    const latest = new Map<string, string>();
    let signed = 0;
    let isOver = false;
    await prepareWorkloads(plane, 'sealed');
    const loops: Promise<void>[] = [];
    for (const name of ['a', 'b']) {
      const { address } = await launch(name).ready;
      const nodeName = `sealed-${name}`;
      const agent: ClusterAgent = await startClusterAgent(plane, {
        ...{ nodeName, port: address.port, trustDomain: TRUST_DOMAIN },
      });
      const uid = await makePod(plane, 'sealed', boundPod(`web-${name}${++requests}`, nodeName));
      await until('its SVID', () => agent.ids().some((id) => id.startsWith(uid)), WAIT);
      const { csr } = await makeKey('ec-p256');
      const sign = async (): Promise<void> => {
        const [result] = await agent.api.signX509([{ registrationId: `${uid}/sealed/web`, csr }]);
        if (result?.ok !== true) throw new Error(result?.code ?? 'no answer');
        signed += 1;
        latest.set(name, parseCertificate(result.chain[0] ?? new Uint8Array()).authorityKeyId ?? '');
      };
      const loop = async (): Promise<void> => {
        while (!isOver) {
          await sign().catch((error: unknown) => failures.push(`${name}: ${String(error)}`));
          await pause(20);
        }
        await agent.stop();
      };
      loops.push(loop());
    }
    closers.push(async () => {
      isOver = true;
      await Promise.all(loops);
    });
    return {
      failures,
      signed: () => signed,
      async untilAllSignWithPresent() {
        const present = await active();
        await until('all sign with it', () => [...latest.values()].every((id) => present.includes(id)), WAIT);
      },
    };
  };

  it(
    'is changed to a file, a KMS, another KMS and back, with two replicas that sign all the while',
    async () => {
      const { failures, signed, untilAllSignWithPresent } = await startSigning();
      await untilSealed();
      const [builtIn = ''] = await sealedBy();
      const changeTo = async (place: Named, previous: Named): Promise<void> => {
        const before = await active();
        expect(await write({ ...place, previous })).toMatchObject({ status: 200 });
        // As docs/operations/rotation.md has it; what the condition said before the change does not count.
        const wait = ['wait', 'trustdomain/main', '--for=condition=KeysSealed', '--timeout=60s'];
        expect(await plane.kubectl(wait)).toMatchObject({ code: 0 });
        expect(await messageOf('KeysSealed')).toMatch(/previous may be taken away/);
        expect(await conditionOf(plane, 'SettingsApplied')).toBe('True Applied');
        expect(await active()).toEqual(before);
        // As the status says, and then nothing but the present one is there to open with.
        await write(place);
        await untilSealed();
        expect(await messageOf('KeysSealed')).not.toMatch(/previous/);
        await rotate();
        await untilAllSignWithPresent();
      };
      const file = await aFile('kek');
      const [one, other] = [await aKms(), await aKms()];
      await changeTo(file, { builtIn: true });
      expect(await sealedBy()).toEqual([expect.stringMatching(/^local:/)]);
      expect(await sealedBy()).not.toEqual([builtIn]);
      // It is left to the administrator, and needed no more.
      expect((await plane.request('DELETE', `${SECRETS}/signet-key-encryption`)).status).toBe(200);
      await changeTo(one.place, file);
      expect(await sealedBy()).toEqual(['kms:key-1']);
      await changeTo(other.place, one.place);
      await one.plugin.stop();
      await rotate();
      await changeTo({ builtIn: true }, other.place);
      const [back] = await sealedBy();
      expect(back).toMatch(/^local:/);
      expect(back).not.toBe(builtIn);
      expect((await plane.request('GET', `${SECRETS}/signet-key-encryption`)).status).toBe(200);
      await untilAllSignWithPresent();
      expect(failures).toEqual([]);
      expect(signed()).toBeGreaterThan(100);
      // Nothing is left that only memory opens.
      await other.plugin.stop();
      await launch('c').ready;
    },
    LONG * 2,
  );

  it(
    'stays as it was where what is named opens nothing, says so, and is changed once the former one is named',
    async () => {
      const { failures, untilAllSignWithPresent } = await startSigning();
      await untilSealed();
      const sealed = await sealedBy();
      const [right, wrong, kms] = [await aFile('right'), await aFile('wrong'), await aKms()];
      const refused: readonly (readonly [Named, string, RegExp])[] = [
        [right, 'KeyEncryptionWrong', /is not in force.*Name the key that sealed before/],
        [{ ...right, previous: wrong }, 'KeyEncryptionWrong', /local:\w+ and local:\w+ is configured/],
        [kms.place, 'KeyEncryptionWrong', /Name the key that sealed before/],
        [{ local: { keyFile: '/nowhere' }, previous: { builtIn: true } }, 'KeyEncryptionUnusable', /nowhere/],
        [{ kms: { socket: '/nowhere' }, previous: { builtIn: true } }, 'KeyEncryptionUnavailable', /KMS/],
      ];
      for (const [named, reason, words] of refused) {
        expect(await write(named)).toMatchObject({ status: 200 });
        await untilCondition('SettingsApplied', `False ${reason}`);
        await untilCondition('KeysSealed', `False ${reason}`);
        expect(await messageOf('SettingsApplied')).toMatch(words);
        expect(await conditionOf(plane, 'Ready')).toBe('True Signing');
        expect(await sealedBy()).toEqual(sealed);
      }
      // It is no reason to begin anew, nor to stop rotating.
      await rotate();
      await untilAllSignWithPresent();
      expect(await sealedBy()).toEqual(sealed);
      await write({ ...kms.place, previous: { builtIn: true } });
      await untilSealed();
      expect(await sealedBy()).toEqual(['kms:key-1']);
      expect(failures).toEqual([]);
    },
    LONG,
  );

  it(
    'that opens nothing lets a server that starts wait and say so, and never begin anew; naming the former one mends it',
    async () => {
      await launch('a').ready;
      await untilSealed();
      const before = await active();
      const other = await aFile('other');
      await write(other);
      await untilCondition('SettingsApplied', 'False KeyEncryptionWrong');
      await Promise.all(servers.splice(0).map((server) => server.stop()));
      const restarted = launch('b');
      await untilCondition('Ready', 'False KeyEncryptionWrong');
      await untilCondition('KeysSealed', 'False KeyEncryptionWrong');
      expect(await messageOf('Ready')).toMatch(/spec.keyEncryption.previous/);
      expect(restarted.logger.lines).toContain('error the authorities cannot be used');
      await write({ ...other, previous: { builtIn: true } });
      await restarted.ready;
      await untilSealed();
      expect(await active()).toEqual(before);
    },
    LONG,
  );

  it(
    'in the Secret is never made anew in place of one that is needed',
    async () => {
      await launch('a').ready;
      await untilSealed();
      const before = await active();
      const kms = await aKms();
      await plane.request('DELETE', `${SECRETS}/signet-key-encryption`);
      // What is named as the former one did not seal these keys: the lost one did.
      await write({ builtIn: true, previous: kms.place });
      await untilCondition('SettingsApplied', 'False KeyEncryptionUnusable');
      expect((await plane.request('GET', `${SECRETS}/signet-key-encryption`)).status).toBe(404);
      expect(await active()).toEqual(before);
    },
    LONG,
  );

  it(
    'is changed by the next leader where one is killed in the middle of it, and keys are sealed anew when the KMS rotates its own',
    async () => {
      const { place, plugin } = await aKms();
      const file = await aFile('kek');
      await write(file);
      const anyPort = '127.0.0.1:0';
      const flags = [
        '--kubeconfig',
        plane.kubeconfig,
        '--listen-address',
        anyPort,
        '--http-address',
        anyPort,
      ];
      const first = start(scope, signetCommand(['server', ...flags]));
      await untilSealed();
      const before = await active();
      const sealed = await sealedBy();
      await launch('b').ready;
      // A replica asks once whether the KMS gives back what it seals; the leader then seals key by key.
      const asked = (): number => plugin.asked.filter((one) => one.startsWith('encrypt')).length;
      plugin.held = () => (asked() > 2 ? first.exited.then(() => undefined) : Promise.resolve());
      await write({ ...place, previous: file });
      await until('it is in the middle', () => asked() > 2, WAIT);
      expect(await sealedBy()).toEqual(sealed);
      await first.kill('SIGKILL');
      plugin.held = undefined;
      await untilSealed();
      expect(await sealedBy()).toEqual(['kms:key-1']);
      await write(place);
      await untilSealed();
      expect(await active()).toEqual(before);
      // Whoever begins to lead looks whether the KMS has another key now.
      plugin.keys.set('key-2', randomBytes(32));
      plugin.current = 'key-2';
      await Promise.all(servers.splice(0).map((server) => server.stop()));
      await launch('c').ready;
      await until('it is sealed anew', async () => (await sealedBy()).join() === 'kms:key-2', WAIT);
      plugin.keys.delete('key-1');
      await launch('d').ready;
      expect(await active()).toEqual(before);
    },
    LONG,
  );

  it('is named in one place alone, and is not its own former one: the API server says so', async () => {
    const [file, other] = [{ local: { keyFile: '/etc/kek' } }, { kms: { socket: '/run/kms.sock' } }];
    for (const [wrong, words] of [
      [{ ...file, ...other }, /exactly one of local, kms and builtIn/],
      [{ ...file, previous: { ...other, builtIn: true } }, /exactly one of local, kms and builtIn/],
      [{ previous: file }, /exactly one of local, kms and builtIn/],
      [{ ...file, previous: file }, /previous names the same key/],
      [{ ...other, previous: other }, /previous names the same key/],
      [{ builtIn: true, previous: { builtIn: true } }, /previous names the same key/],
    ] as const) {
      const { status, text } = await write(wrong);
      expect([status, text]).toEqual([422, expect.stringMatching(words)]);
    }
    expect(await write({ ...file, previous: { local: { keyFile: '/etc/other' } } })).toMatchObject({
      status: 200,
    });
  });
});
