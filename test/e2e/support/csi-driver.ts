/**
 * The CSI driver as a process of its own, with a content that only shows that it is there: a file `served-by`, and an echo
 * socket. `node --import run-typescript.mjs csi-driver.ts '{…}'`; prints `serving` once the kubelet can call it.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { serveCsi } from '../../../src/agent/csi/serve.js';
import { VolumeKeeper } from '../../../src/agent/csi/volume-keeper.js';
import type { OpenContent } from '../../../src/agent/csi/volumes.js';
import { systemClock } from '../../../src/lib/clock.js';
import type { Logger } from '../../../src/lib/logger.js';
import { systemRandom } from '../../../src/lib/random.js';
import { linuxMounts } from '../../../src/rpc/mount/linux.js';
import type { Mounts } from '../../../src/rpc/mount/mounts.js';
import { listenAt } from '../../../src/rpc/socket-file.js';
import type { DriverOptions } from './csi-node.js';

interface Given extends DriverOptions {
  readonly directory: string;
  readonly kubelet: string;
  readonly state: string;
}

const given = JSON.parse(process.argv[2] ?? '{}') as Given;
const log =
  (level: string): Logger['info'] =>
  (message, fields) =>
    void process.stdout.write(`${level} ${message} ${JSON.stringify(fields ?? {})}\n`);
const logger: Logger = {
  ...{ debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') },
  child: () => logger,
};

const dieBefore = (step: string): void => {
  if (given.dieBefore === step) process.kill(process.pid, 'SIGKILL');
};

const real = await linuxMounts();
const mounts: Mounts = {
  ...real,
  bind(source, place) {
    dieBefore('bind');
    real.bind(source, place);
    dieBefore('bound');
  },
  unbind(place) {
    dieBefore('unbind');
    real.unbind(place);
    dieBefore('unbound');
  },
};

const openContent: OpenContent = async (volume, directory, signal) => {
  dieBefore('content');
  if (given.slow === true)
    while (!existsSync(join(given.directory, 'go'))) await after(5, undefined, { signal });
  const server = createServer((socket) => socket.end(`${process.pid} ${volume.podUid}`));
  await listenAt(
    server,
    { path: join(directory, volume.settings.socket), mode: 0o666, takeOver: true },
    systemRandom,
  );
  writeFileSync(join(directory, 'served-by'), String(process.pid));
  dieBefore('opened');
  return {
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
};

const volumes = new VolumeKeeper({
  ...{ stateDirectory: given.state, kubeletDirectory: given.kubelet, mounts, openContent, logger },
  registrationOf: () => undefined,
  clock: systemClock,
});
const driver = await serveCsi({
  ...{ volumes, mounts, kubeletDirectory: given.kubelet, nodeName: 'node-1', version: '0.0.0' },
  ...{ clock: systemClock, random: systemRandom, logger },
});
process.stdout.write('serving\n');
process.once('SIGTERM', () => void driver.close());
const alive = setInterval(() => undefined, 60_000);
await driver.ended;
clearInterval(alive);
