/** A network that fails, between a client and a server: bytes are late, stop, or end in a reset. TLS goes through untouched. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

export interface FaultProxy {
  readonly port: number;
  /** `https://127.0.0.1:<port>`, for which the certificate of a rig's API server is good. */
  readonly url: string;
  /** How many connections are open now, and how many were ever made. */
  connections(): { readonly open: number; readonly made: number };
  /** Resets every connection that is open. New ones are taken. */
  cut(): void;
  /** Also resets every new connection at once, until `heal`. */
  refuse(): void;
  /** Forwards nothing more in either direction, of old connections and new ones, and closes none: until `heal` or `cut`. */
  stall(): void;
  /** Everything that comes from now on is forwarded this many milliseconds later, in each direction. */
  delay(milliseconds: number): void;
  /** Forwards as if nothing had been, what was held back too. */
  heal(): void;
  close(): Promise<void>;
}

interface Weather {
  refusing: boolean;
  stalled: boolean;
  delay: number;
}

/** One direction of a connection. */
interface Flow {
  /** Looks at the weather again. */
  update(): void;
}

/** Starts one on a free port of 127.0.0.1 for the server at this URL, e.g. `plane.server`. */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const { hostname, port: targetPort } = new URL(target);
  const weather: Weather = { refusing: false, stalled: false, delay: 0 };
  const open = new Map<Socket, readonly Flow[]>();
  let made = 0;

  const server = createServer({ allowHalfOpen: true }, (client) => {
    made++;
    client.on('error', () => undefined); // told by its close
    if (weather.refusing) {
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ host: hostname, port: Number(targetPort), allowHalfOpen: true });
    upstream.on('error', () => undefined);
    open.set(client, [newFlow(client, upstream, weather), newFlow(upstream, client, weather)]);
    client.on('close', () => {
      open.delete(client);
      upstream.destroy();
    });
  });
  const port = await listen(server);
  const change = (what: Partial<Weather>): void => {
    Object.assign(weather, what);
    for (const flows of open.values()) for (const flow of flows) flow.update();
  };
  const cut = (): void => {
    for (const client of open.keys()) client.resetAndDestroy();
  };
  return {
    port,
    url: `https://127.0.0.1:${port}`,
    connections: () => ({ open: open.size, made }),
    cut,
    refuse(): void {
      change({ refusing: true });
      cut();
    },
    stall: () => change({ stalled: true }),
    delay: (milliseconds) => change({ delay: milliseconds }),
    heal: () => change({ refusing: false, stalled: false, delay: 0 }),
    close(): Promise<void> {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** Forwards bytes and the end from one socket to the other, in order. */
function newFlow(from: Socket, to: Socket, weather: Weather): Flow {
  let full = false;
  let lost: 'closed' | 'broken' | undefined;
  let due = 0;
  /** Never before what came earlier, whatever the delay was then. */
  const later = (what: () => void): void => {
    due = Math.max(due, performance.now() + weather.delay);
    const wait = due - performance.now();
    if (wait <= 0) what();
    else setTimeout(what, wait);
  };
  const update = (): void => {
    if (weather.stalled || full) from.pause();
    else from.resume();
    // Behind a stalled network nobody hears that the other side is gone.
    if (weather.stalled || lost === undefined) return;
    if (lost === 'broken') later(() => void to.resetAndDestroy());
    else later(() => to.destroySoon());
  };
  from.on('data', (chunk: Buffer) => {
    later(() => {
      if (to.destroyed || to.write(chunk)) return;
      full = true;
      update();
    });
  });
  to.on('drain', () => {
    full = false;
    update();
  });
  from.on('end', () => later(() => to.end()));
  from.on('close', (hadError) => {
    lost = hadError ? 'broken' : 'closed';
    update();
  });
  update();
  return { update };
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });
}
