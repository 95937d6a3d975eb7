// The files of a volume on a file system that fills up: started in a mount namespace of its own, says what it saw.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { argv, stdout } from 'node:process';
import { createAgent } from '../../src/agent/agent.js';
import { parseVolumeSettings } from '../../src/agent/csi/settings.js';
import { createOpenFiles } from '../../src/agent/files/open-files.js';
import { until } from './fake-call.js';
import { FakeClock, settle } from './fake-clock.js';
import { FakeNodeApi, podRegistration } from './fake-node-api.js';
import { recordingLogger } from './recording-logger.js';
import { seededRandom } from './seeded-random.js';

const [, , directory = ''] = argv;
execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', directory]);

const clock = new FakeClock();
const api = await FakeNodeApi.create(clock);
const logger = recordingLogger();
const stop = new AbortController();
const agent = createAgent({ api, nodeName: 'node-1', clock, random: seededRandom(), logger });
const running = agent.run(stop.signal);
api.upsert(podRegistration('order'));

const open = (attributes: Record<string, string>): ReturnType<ReturnType<typeof createOpenFiles>> =>
  createOpenFiles({ parts: agent.parts, random: seededRandom() })({
    podUid: 'order',
    settings: parseVolumeSettings({ files: 'pem', ...attributes }),
    directory,
    signal: AbortSignal.abort(),
  });

/** Fills what room there is. */
function fill(): void {
  for (let size = 65_536, at = 0; size > 0; at++)
    try {
      writeFileSync(join(directory, `filler-${at}`), Buffer.alloc(size, 1));
    } catch {
      size >>= 1;
    }
}
const empty = (): void => {
  for (const name of readdirSync(directory)) if (name.startsWith('filler')) rmSync(join(directory, name));
};
const say = (what: string, value: unknown): boolean => stdout.write(`${JSON.stringify({ what, value })}\n`);
const read = (name: string): string => readFileSync(join(directory, name), 'utf8');
const sets = (): number => readdirSync(directory).filter((name) => name.startsWith('..2')).length;
async function untilRenewed(serials: number): Promise<void> {
  for (let minutes = 0; minutes < 40 && api.x509Batches.length < serials; minutes++) {
    await clock.advance(60_000);
    await settle();
  }
}

let files = open({});
await until(() => files.state.value.kind === 'current');
const before = read('tls.crt') + read('tls.key');
fill();
await untilRenewed(2);
await until(() => files.state.value.kind === 'failing');
say('full', files.state.value);
await clock.advance(120_000);
say('old set is whole', read('tls.crt') + read('tls.key') === before);
say('sets', sets());
say('warnings', logger.lines.filter((line) => line.includes('cannot be written')).length);

empty();
await clock.advance(60_000);
await until(() => files.state.value.kind === 'current');
say('new set', read('tls.crt') + read('tls.key') !== before);

// By the wall clock it has an hour more to live.
await files.close();
files = open({ jwtAudiences: 'vault' });
await until(() => files.state.value.kind === 'current' && existsSync(join(directory, 'jwt/vault')));
// The set before is gone then, and makes no room.
await clock.advance(11_000);
fill();
const token = existsSync(join(directory, 'jwt/vault'));
clock.jump(-3_600_000);
await clock.advance(360_000);
await settle();
say('token before and after its life', [token, existsSync(join(directory, 'jwt/vault'))]);
empty();
await clock.advance(60_000);
await until(() => files.state.value.kind === 'current');

fill();
api.remove('order/id');
await until(() => files.state.value.kind === 'withdrawn');
say(
  'left when full',
  readdirSync(directory).filter((name) => !name.startsWith('filler')),
);
say('key there', existsSync(join(directory, 'tls.key')));

api.upsert(podRegistration('order', { revision: '2' }));
fill();
const waiting = open({ jwtAudiences: 'b' });
say(
  'unwritten',
  await waiting.written.then(
    () => 'written',
    (error: unknown) => (error as Error).message,
  ),
);
await waiting.close();
await files.close();
stop.abort();
await running;
