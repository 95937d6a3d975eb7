import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { until } from '../support/until.js';
import { startFaultProxy, type FaultProxy } from './fault-proxy.js';

/** A client that keeps what it heard. */
interface Client {
  readonly socket: Socket;
  heard: string;
  /** `end`, or the code of the error. */
  over?: string;
}

describe('a network that fails', () => {
  let server: Server;
  let proxy: FaultProxy;
  let serverHeard: string;

  beforeEach(async () => {
    serverHeard = '';
    // Says back what it hears; at `bye`, that is the last.
    server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (chunk: Buffer) => {
        serverHeard += chunk.toString();
        if (chunk.toString().endsWith('bye')) socket.end(chunk);
        else socket.write(chunk);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    proxy = await startFaultProxy(`https://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });
  afterEach(async () => {
    await proxy.close();
    await new Promise((resolve) => server.close(resolve));
  });

  const newClient = (): Client => {
    const client: Client = { socket: connect(proxy.port, '127.0.0.1'), heard: '' };
    client.socket.on('data', (chunk: Buffer) => (client.heard += chunk.toString()));
    client.socket.on('error', (error) => (client.over = (error as NodeJS.ErrnoException).code ?? ''));
    client.socket.on('end', () => (client.over ??= 'end'));
    return client;
  };
  const echoed = async (client: Client, text: string): Promise<void> => {
    client.socket.write(text);
    await until(`the echo of ${text}`, () => client.heard.endsWith(text));
  };

  it('forwards everything, and the end after it', async () => {
    const client = newClient();
    const much = 'x'.repeat(5_000_000);
    client.socket.write(much);
    client.socket.write('bye');
    await until('the end', () => client.over === 'end');
    expect(client.heard).toBe(`${much}bye`);
    expect(proxy.connections().made).toBe(1);
    await until('no connection', () => proxy.connections().open === 0);
  });

  it('resets what is open, and takes new connections or none', async () => {
    const first = newClient();
    await echoed(first, 'a');
    proxy.cut();
    await until('a reset', () => first.over === 'ECONNRESET');
    const second = newClient();
    await echoed(second, 'b');
    proxy.refuse();
    await until('a reset', () => second.over === 'ECONNRESET');
    const third = newClient();
    await until('a reset', () => third.over === 'ECONNRESET');
    proxy.heal();
    await echoed(newClient(), 'c');
  });

  it('holds everything back while stalled, without closing, and brings it afterwards', async () => {
    const old = newClient();
    await echoed(old, 'a');
    proxy.stall();
    const fresh = newClient();
    old.socket.write('b');
    fresh.socket.write('c');
    await until('both connections', () => proxy.connections().open === 2);
    // A connection past the proxy is served meanwhile, so the bytes had every chance to come through.
    const past = connect((server.address() as AddressInfo).port, '127.0.0.1');
    past.write('bye');
    await new Promise((resolve) => past.on('close', resolve).resume());
    expect(serverHeard).toBe('abye');
    expect([old.heard, old.over, fresh.heard, fresh.over]).toEqual(['a', undefined, '', undefined]);
    proxy.heal();
    await until('what was held back', () => old.heard === 'ab' && fresh.heard === 'c');
  });

  it('keeps a client in the dark about a server that went away behind a stall', async () => {
    const client = newClient();
    await echoed(client, 'a');
    client.socket.write('bye');
    proxy.stall();
    await until('what the server heard', () => serverHeard === 'abye' || proxy.connections().open === 1);
    expect(client.over).toBeUndefined();
    proxy.heal();
    await until('the end', () => client.over === 'end');
    expect(client.heard).toBe('abye');
  });

  it('brings everything later, in order', async () => {
    const client = newClient();
    await echoed(client, 'a');
    proxy.delay(60);
    const start = performance.now();
    client.socket.write('b');
    await until('its echo', () => client.heard === 'ab');
    expect(performance.now() - start).toBeGreaterThan(118); // there and back
    client.socket.write('c');
    await until('what is on its way', () => serverHeard === 'abc');
    proxy.heal();
    client.socket.write('d');
    await until('both', () => client.heard.length === 4);
    expect(client.heard).toBe('abcd');
  });
});
