/** A TCP port that neither answers nor refuses, as that of a machine which is gone. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { until } from './until.js';

export interface SilentPort {
  readonly port: number;
  /** Connections to it that this machine is trying to make, its own fillers included. */
  waiting(): number;
  /** Frees the port, for somebody who answers. */
  close(): Promise<void>;
}

const LISTEN = `
  const server = require('node:net').createServer();
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => console.log(server.address().port));`;
/** As `/proc/net/tcp` writes it. */
const SYN_SENT = '02';

/** A program that listens and is stopped; once its backlog is full, the kernel drops whoever comes. */
export async function silentPort(): Promise<SilentPort> {
  const program = spawn(process.execPath, ['-e', LISTEN], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(program, 'exit');
  const [said] = (await once(program.stdout, 'data')) as [Buffer];
  const port = Number(said.toString());
  program.kill('SIGSTOP');
  const fillers = Array.from({ length: 4 }, () =>
    connect({ port, host: '127.0.0.1' }).on('error', () => undefined),
  );
  const waiting = (): number => attempts(port);
  await until('a full backlog', () => waiting() > 0 && waiting() + connected(fillers) === fillers.length);
  return {
    port,
    waiting,
    async close() {
      fillers.forEach((filler) => filler.destroy());
      program.kill('SIGKILL');
      await exited;
    },
  };
}

function connected(fillers: readonly { readonly connecting: boolean }[]): number {
  return fillers.filter(({ connecting }) => !connecting).length;
}

function attempts(port: number): number {
  const remote = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return readFileSync('/proc/net/tcp', 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , to, state]) => to === remote && state === SYN_SENT).length;
}
