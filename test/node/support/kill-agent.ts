import { agentUsage } from './keepers.js';
import type { NodeWorld } from './world.js';

/** What runs on the node: kills a process and says for how long nobody answers at a socket, in ms. */
const PROGRAM = `
const { connect } = require('node:net');
const [pid, path] = process.argv.slice(1);
process.kill(Number(pid), 'SIGKILL');
const began = Date.now();
let away = false;
const again = () => (Date.now() - began > 120_000 ? process.exit(1) : setTimeout(look, 5));
const look = () => {
  const client = connect(path);
  client.on('error', () => { away = true; again(); });
  client.on('connect', () => {
    client.destroy();
    if (away) console.log(Date.now() - began);
    else again();
  });
};
look();
`;

/** Kills the agent (SIGKILL), and waits until another one answers at the socket of a pod: how long that took, in ms. */
export async function killAgent(world: NodeWorld): Promise<number> {
  const { pid } = await agentUsage(world);
  const { stdout: sockets } = await world.cluster.enter('sh', '-c', 'ls /run/signet/volumes/*/data/api.sock');
  const [socket = ''] = sockets.split('\n');
  const { code, stdout, stderr } = await world.cluster.enter(
    ...[process.execPath, '-e', PROGRAM, String(pid), socket],
  );
  if (code !== 0) throw new Error(`no agent answers at ${socket}: ${stderr}`);
  return Number(stdout);
}
