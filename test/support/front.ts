import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Forwards new connections to one of the ports, as a Service does: which, a test changes. */
export interface Front {
  readonly port: number;
  to(port: number): void;
  close(): Promise<void>;
}

/** Starts one on a free port of 127.0.0.1. */
export async function startFront(first: number): Promise<Front> {
  let target = first;
  const open = new Set<Socket>();
  const server: Server = createServer((client) => {
    const upstream = connect({ host: '127.0.0.1', port: target });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(one);
      one
        .on('error', () => undefined)
        .on('close', () => {
          open.delete(one);
          other.destroy();
        });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    to: (port) => (target = port),
    async close() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
