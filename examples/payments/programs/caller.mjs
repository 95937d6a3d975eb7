// What order-service and admin-service have in common: they call payment-service, as whoever they are.
import { createInterface } from 'node:readline';
import { URL } from 'node:url';
import { authorizeServiceAccount, createMtlsClient, createX509Source } from '../../../dist/workload/index.js';
import { say, sayIdentity } from './say.mjs';

/**
 * Makes these calls, then listens on stdin: after the line `go` it calls on and on, after `stop` it counts, and ends.
 */
export async function run(calls) {
  const source = await createX509Source();
  sayIdentity(source);
  const { trustDomain } = source.svid().id;
  // The server is known by its identity; where it runs, and under which host name, does not matter.
  const client = createMtlsClient(
    source,
    authorizeServiceAccount(trustDomain, 'payments', 'payment-service'),
  );
  const call = (method, path) => client.request(new URL(path, process.env.PAYMENT_URL), { method });

  for (const [method, path] of calls) {
    const { status, body, peer, protocol } = await call(method, path);
    say('call', {
      method,
      path,
      status,
      protocol,
      server: peer.uri,
      reason: JSON.parse(body.toString()).reason,
    });
  }

  let going = false;
  let counted = Promise.resolve();
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'go') {
      going = true;
      counted = load();
    }
    if (line === 'stop') break;
  }
  going = false;
  await counted;
  client.close();
  source.close();

  /** Every second call opens a connection of its own, so that handshakes happen at every moment of a rotation. */
  async function load() {
    const [method, path] = calls[0];
    const failures = [];
    let count = 0;
    while (going) {
      try {
        const { status } = await call(method, path);
        if (status !== 200) failures.push(`${method} ${path}: ${status}`);
      } catch (error) {
        failures.push(String(error.code ?? error.message));
      }
      count += 1;
      if (count === 1) say('going', {});
      if (count % 2 === 0) client.agent.destroy();
    }
    say('counted', { count, failed: failures.length, failures: failures.slice(0, 5) });
  }
}
