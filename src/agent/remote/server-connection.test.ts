import { beforeEach, describe, expect, it } from '@jest/globals';
import { startFaultProxy } from '../../../test/rig/fault-proxy.js';
import { identityIn, nodeWorlds, type NodeWorld, type Replica } from '../../../test/support/node-world.js';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { until } from '../../../test/support/until.js';
import { formatBundleDocument, parseBundleDocument } from '../../identity/spiffe/bundle-document.js';
import { SignetError } from '../../lib/errors.js';
import { createRpcServer } from '../../rpc/server.js';
import { nodeService } from '../../rpc/services.js';
import { makeKey } from '../key-maker.js';
import { connectToServer, type ServerConnection, type ServerConnectionOptions } from './server-connection.js';

const MINUTE = 60_000;
const { world, closing } = nodeWorlds();

let w: NodeWorld;
/** SPIFFE ID and authority of each SVID that was signed for an agent, in order. */
let signed: { readonly id: string; readonly authorityId: string; readonly notAfter: number }[];
let stop: AbortController;

beforeEach(async () => {
  w = await world();
  signed = [];
  stop = new AbortController();
  closing(() => stop.abort());
});

function replica(options: Parameters<NodeWorld['replica']>[0] = {}): Promise<Replica> {
  const { ca } = w;
  return w.replica({
    ca: {
      trustDomain: ca.trustDomain,
      bundle: ca.bundle,
      async signX509(request) {
        const answer = await ca.signX509(request);
        signed.push({
          id: request.spiffeId.path,
          authorityId: answer.authorityId,
          notAfter: answer.notAfter,
        });
        return answer;
      },
    },
    ...options,
  });
}

/** Moves the clock on until the fact holds: what waits on it goes on, what is on its way arrives. */
const advancing = <T>(what: string, fact: () => T | undefined | false): Promise<T> =>
  until(what, async () => {
    await w.clock.advance(200);
    return fact();
  });

async function connected(
  port: number,
  token: string,
  options: Partial<ServerConnectionOptions> = {},
): Promise<ServerConnection> {
  const connection = await connectToServer({ ...w.agentOptions(port, token), ...options }, stop.signal);
  closing(() => connection.close());
  return connection;
}

/** Begins to connect; `done` once it has, or has given up. */
function connecting(
  port: number,
  token: string,
  options: Partial<ServerConnectionOptions> = {},
): { done: ServerConnection | SignetError | undefined } {
  const attempt: { done: ServerConnection | SignetError | undefined } = { done: undefined };
  connected(port, token, options).then(
    (connection) => (attempt.done = connection),
    (thrown: unknown) => (attempt.done = SignetError.from(thrown)),
  );
  return attempt;
}

const works = async ({ rpc }: ServerConnection): Promise<void> => {
  for await (const { own } of rpc.client(nodeService).watchBundles({})) {
    expect(own).toContain('keys');
    return;
  }
};
/** The next attempt to connect waits on the clock. */
const worksAgain = (connection: ServerConnection): Promise<true> =>
  until('the connection works again', async () => {
    await w.clock.advance(200);
    await works(connection);
    return true;
  });
const authority = (): string =>
  w.ca.authorities().find(({ kind, slot }) => kind === 'x509' && slot === 'active')?.id ?? '';

describe('an agent that connects', () => {
  it('proves itself by its token once, and shows its SVID from then on', async () => {
    const { port } = await replica();
    const connection = await connected(port, w.agentPod('n1'));
    expect(connection.nodeName).toBe('n1');
    await works(connection);
    expect(signed.map(({ id }) => id)).toEqual(['/signet/agent/n1']);
    expect(w.reviewed).toBe(1);
  });

  it('waits for a server that is not there yet, and says so once for each reason', async () => {
    const { port } = await replica();
    const proxy = await startFaultProxy(`https://127.0.0.1:${port}`);
    closing(() => proxy.close());
    proxy.refuse();
    const attempt = connecting(proxy.port, w.agentPod('n1'));
    await advancing('some attempts', () => proxy.connections().made > 4);
    expect(attempt.done).toBeUndefined();
    const said = w.log.lines.filter((line) => line.includes('does not take this agent yet')).length;
    expect(said).toBeGreaterThan(0);
    expect(said).toBeLessThan(proxy.connections().made);
    proxy.heal();
    await advancing('an agent that is connected', () => attempt.done);
    expect(attempt.done).toMatchObject({ nodeName: 'n1' });
  });

  it('waits for its files: a token that is missing or empty, a bundle that is missing or holds no authority', async () => {
    const { port } = await replica();
    const good = w.agentPod('n1');
    const files = { token: undefined as string | undefined, bundle: undefined as string | undefined };
    const read = (name: 'token' | 'bundle') => (): Promise<string> => {
      const content = files[name];
      return content === undefined
        ? Promise.reject(new Error(`ENOENT: no such file, ${name}`))
        : Promise.resolve(content);
    };
    const attempt = connecting(port, good, { readToken: read('token'), readBundle: read('bundle') });
    const said = (text: string): Promise<boolean> =>
      advancing(text, () => w.log.all.some((line) => line.includes(text)));
    await said('no such file, bundle');
    files.bundle = '{"keys":[]}';
    await said('holds no X.509 authority');
    files.bundle = formatBundleDocument(w.ca.bundle.value);
    await said('no such file, token');
    files.token = '\n';
    await said('is empty');
    expect(w.reviewed).toBe(0);
    files.token = `${good}\n`;
    await advancing('an agent that is connected', () => attempt.done);
    expect(attempt.done).toMatchObject({ nodeName: 'n1' });
  });

  it('gives up when it is stopped', async () => {
    const attempt = connecting(1, w.agentPod('n1'));
    await advancing('an attempt', () => w.log.lines.length > 0);
    stop.abort(new SignetError('Stopped', 'enough'));
    await advancing('its end', () => attempt.done);
    expect(attempt.done).toMatchObject({ code: 'Stopped' });
    await advancing('no timer left', () => w.clock.timers === 0);
  });
});

describe('an agent’s own SVID', () => {
  it('is renewed at half of its life by the one before, and the token of that time', async () => {
    const { port } = await replica();
    const connection = await connected(port, w.agentPod('n1'));
    await w.clock.advance(26 * MINUTE);
    expect(signed).toHaveLength(1);
    await w.clock.advance(8 * MINUTE);
    await advancing('a renewal', () => signed.length >= 2);
    expect(w.reviewed).toBe(2);
    // Long after the first one is over.
    await w.clock.advance(40 * MINUTE);
    await advancing('the next renewal', () => signed.length >= 3);
    await works(connection);
    expect(w.reviewed).toBe(3);
    expect(w.log.all.join('\n')).not.toContain('proves itself anew');
  });

  it('is had by the token again when the server does not renew it, with the token of that time', async () => {
    let gone = false;
    const { port } = await replica({ hasAgent: () => !gone });
    const tokens = [w.agentPod('n1')];
    await connected(port, '', { readToken: () => Promise.resolve(tokens.at(-1) ?? '') });
    gone = true;
    const [review] = w.reviews.values();
    if (review !== undefined) w.reviews.set('header.rotated.signature', review);
    w.reviews.delete(tokens[0] ?? '');
    tokens.push('header.rotated.signature');
    await w.clock.advance(34 * MINUTE);
    await advancing('a new SVID', () => signed.length >= 2);
    expect(w.reviewed).toBe(2);
    expect(w.log.all.join('\n')).toContain('proves itself anew');
    expect(w.log.all.join('\n')).not.toContain('rotated');
  });

  it('is kept through an outage, and had again after it, also once it is over', async () => {
    const { port } = await replica();
    const proxy = await startFaultProxy(`https://127.0.0.1:${port}`);
    closing(() => proxy.close());
    const connection = await connected(proxy.port, w.agentPod('n1'));
    proxy.refuse();
    proxy.cut();
    await w.clock.advance(40 * MINUTE);
    await w.clock.advance(40 * MINUTE);
    expect(signed).toHaveLength(1);
    proxy.heal();
    await advancing('a new SVID', () => signed.length >= 2);
    expect(w.reviewed).toBe(2);
    await worksAgain(connection);
  });

  it('is renewed over the connection that there is while the clock is behind, and that connection stays', async () => {
    const { port } = await replica();
    const clock = new FakeClock(w.clock.now());
    const connection = await connected(port, w.agentPod('n1'), { clock });
    const received = (async () => {
      for await (const { own } of connection.rpc.client(nodeService).watchBundles({}))
        connection.learn(parseBundleDocument(w.ca.trustDomain, own), []);
    })().catch((error: unknown) => error);
    await works(connection);
    clock.jump(-10 * MINUTE);
    // Longer than it would go on with the bundle that it knows.
    for (let second = 0; second < 120; second++) await clock.advance(1_000);
    await until('another SVID', () => signed.length === 2);
    expect(w.log.all.join('\n')).not.toMatch(/could not be renewed|proves itself anew/);
    await works(connection);
    connection.close();
    expect(await received).toMatchObject({ code: 'RpcCancelled' });
  });

  it('is replaced at once when its authority is tainted', async () => {
    const { port } = await replica();
    const connection = await connected(port, w.agentPod('n1'));
    const old = authority();
    await w.ca.rotate('x509');
    await w.ca.taint('x509', old);
    connection.learn(w.ca.bundle.value, w.ca.taints.value.x509);
    await until('a new SVID', () => signed.length === 2);
    expect(signed[1]?.authorityId).toBe(authority());
    expect(signed[1]?.authorityId).not.toBe(old);
    expect(w.log.all.join('\n')).not.toContain('proves itself anew');
    // Told again, it does nothing: what it has is not tainted.
    connection.learn(w.ca.bundle.value, w.ca.taints.value.x509);
    await w.clock.advance(5_000);
    expect(signed).toHaveLength(2);
  });
});

describe('the server that an agent talks to', () => {
  it('may be signed by the authority before or the next: both are known in time', async () => {
    const first = await replica();
    const connection = await connected(first.port, w.agentPod('n1'));
    await w.ca.rotate('x509');
    connection.learn(w.ca.bundle.value, []);
    await works(connection);
    const next = await replica();
    const other = await connected(next.port, w.agentPod('n1'));
    await works(other);
    // A bundle without authorities would shut the agent out for good.
    connection.learn({ ...w.ca.bundle.value, x509Authorities: [], sequence: 99 }, []);
    const third = await replica();
    await works(await connected(third.port, w.agentPod('n1')));
    await works(connection);
  });

  it('is found again by an agent that slept through rotations, by the bundle that lies beside its token', async () => {
    const { port } = await replica();
    const connection = await connected(port, w.agentPod('n1'));
    const old = authority();
    await w.ca.rotate('x509');
    await w.ca.taint('x509', old);
    await w.clock.advance(0);
    await w.ca.revoke('x509', old);
    await w.clock.advance(61 * MINUTE);
    await advancing('a new SVID', () => signed.length >= 2);
    expect(signed[1]?.authorityId).not.toBe(old);
    await worksAgain(connection);
  });

  it('must have the server’s own SPIFFE ID: no token is shown to another, whoever signed it', async () => {
    const tokens: string[] = [];
    const { clock, log } = w;
    const impostor = createRpcServer({ logger: log, clock, standardServices: false });
    closing(() => impostor.close());
    const identity = await identityIn(w, '/signet/agent/n2');
    closing(() => identity.close());
    const { attestAgent } = nodeService;
    impostor.service(
      { attestAgent },
      {
        attestAgent: ({ token }) => {
          tokens.push(token);
          return Promise.reject(new Error('got it'));
        },
      },
    );
    const { port } = await impostor.listenTls({
      ...{ address: '127.0.0.1', port: 0, name: 'agents', identity, clientCertificate: 'optional' },
    });
    const attempt = connecting(port, w.agentPod('n1'));
    await advancing('a refusal', () => w.log.all.some((line) => line.includes('is not the server')));
    expect(attempt.done).toBeUndefined();
    expect(tokens).toEqual([]);
  });

  it.each([
    ['another key', { otherKey: true, nodeName: 'n1' }],
    ['nothing', { empty: true, nodeName: 'n1' }],
  ])(
    'is not believed when it answers with %s',
    async (
      _,
      {
        otherKey,
        empty,
        nodeName,
      }: {
        otherKey?: boolean;
        empty?: boolean;
        nodeName: string;
      },
    ) => {
      const { ca } = w;
      const { port } = await replica({
        ca: {
          ...{ trustDomain: ca.trustDomain, bundle: ca.bundle },
          async signX509(request) {
            const { spki } = otherKey === true ? await makeKey('ec-p256') : request;
            const answer = await ca.signX509({ ...request, spki });
            return empty === true ? { ...answer, chain: [] } : answer;
          },
        },
      });
      const attempt = connecting(port, w.agentPod(nodeName));
      await advancing('a refusal', () => w.log.all.some((line) => line.includes('AgentSvidInvalid')));
      expect(attempt.done).toBeUndefined();
    },
  );
});
