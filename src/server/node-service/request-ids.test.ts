import { expect, it } from '@jest/globals';
import { podRegistration } from '../../../test/support/fake-node-api.js';
import { nodeWorlds } from '../../../test/support/node-world.js';
import { until } from '../../../test/support/until.js';
import { makeKey } from '../../agent/key-maker.js';
import { defaultAgentLimits } from '../../agent/limits.js';
import { connectToServer } from '../../agent/remote/server-connection.js';
import { X509Keeper } from '../../agent/x509-keeper.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { systemRandom } from '../../lib/random.js';
import { createRemoteNodeApi } from '../../rpc/node/remote-node-api.js';

const { world, closing } = nodeWorlds();

it('calls a request for signatures by one name in the log of the agent and in that of the server', async () => {
  const w = await world();
  const replica = await w.replica();
  const stop = new AbortController();
  const connection = await connectToServer(w.agentOptions(replica.port, w.agentPod('node-1')), stop.signal);
  closing(() => connection.close());
  const logger = recordingLogger();
  const keeper = new X509Keeper({
    api: createRemoteNodeApi(() => connection.rpc, 'example.org'),
    ...{ clock: w.clock, random: systemRandom, logger, limits: defaultAgentLimits, makeKey },
    ...{ keyType: 'ec-p256', onChange: () => undefined },
  });
  const running = keeper.run(stop.signal);
  closing(async () => {
    stop.abort();
    await running;
  });
  // The server knows no pod on this node.
  keeper.upsert(podRegistration('gone'), false);
  const idIn = (lines: readonly string[], message: string): string | undefined => {
    const line = lines.find((one) => one.startsWith(`warn ${message}`));
    return line === undefined ? undefined : /"requestId":"([0-9a-f]{16})"/.exec(line)?.[1];
  };
  await until('the refusal', () => keeper.stats().failing === 1);
  const id = idIn(logger.all, 'no X.509-SVID for a registration');
  expect(id).toBeDefined();
  expect(idIn(w.log.all, 'an agent is refused signatures')).toBe(id);
  expect(w.log.all.find((line) => line.includes(id ?? ''))).toContain(
    '"nodeName":"node-1","asked":1,"refused":1,"codes":["RegistrationNotFound"]',
  );
});
