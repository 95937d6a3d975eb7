import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { proxyCaptureCommand } from '../../src/main/proxy-capture-command.js';

/*
 * `signet proxy-capture` before the real kernel: a network namespace like a pod's, and another one that calls into it. The
 * program listens at all addresses of 8080 and 9000, what stands for the proxy at 15630.
 */

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const HERE = { v4: '10.77.0.1', v6: 'fd77::1' };
const POD = { v4: '10.77.0.2', v6: 'fd77::2' };
/** Who listens says its port. */
const LISTEN = `
  const ports = process.argv.slice(1).map(Number);
  let waiting = ports.length;
  for (const port of ports)
    require('node:net').createServer((socket) => { socket.on('error', () => {}); socket.end(String(port)); })
      .listen({ port, host: '::' }, () => { if (--waiting === 0) console.log('ready'); });`;
/** Says what it hears at an address, or how the call failed; a call without an answer is over after 3 s. */
const CALL = `
  const [host, port] = process.argv.slice(1);
  const socket = require('node:net').connect({ host, port: Number(port) });
  socket.setTimeout(3000, () => { console.log('nothing'); socket.destroy(); });
  socket.on('error', ({ code }) => console.log(code));
  socket.on('data', (bytes) => console.log(String(bytes)));`;

/** The command as the program has it, without the rest of the program, which takes long to read. */
const COMMAND = [
  ...['--import', join(root, 'test', 'support', 'run-typescript.mjs'), '--input-type=module', '--eval'],
  `const { proxyCaptureCommand } = await import(${JSON.stringify(join(root, 'src', 'main', 'proxy-capture-command.ts'))});
   await proxyCaptureCommand({ stdout: (text) => process.stdout.write(text) }).parseAsync(process.argv.slice(1), { from: 'user' });`,
  '--',
];

interface Ran {
  readonly code: number;
  readonly output: string;
}

function run(command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(command, args, (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), output: (stdout + stderr).trim() });
    });
  });
}
async function must(command: string, ...args: readonly string[]): Promise<string> {
  const { code, output } = await run(command, args);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${output}`);
  return output;
}

/** Much is started, and machines are shared. */
const LIMIT = 90_000;
const isPossible = spawnSync('unshare', ['--net', 'ip', 'link']).status === 0;

(isPossible ? describe : describe.skip)('captured ports', () => {
  const children: ChildProcess[] = [];
  let pod: number;
  let other: number;

  /** A process that holds a network namespace; its number. */
  const hold = async (): Promise<number> => {
    const child = spawn('unshare', ['--net', 'sh', '-c', 'echo ready; exec sleep infinity'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    await once(child.stdout, 'data');
    return child.pid ?? 0;
  };
  const inside = (namespace: number, ...command: readonly string[]): readonly string[] => [
    ...[`--target=${namespace}`, '--net', '--', ...command],
  ];
  const enter = (namespace: number, ...command: readonly string[]): Promise<string> =>
    must('nsenter', ...inside(namespace, ...command));
  const capture = (
    namespace: number,
    flags: readonly string[],
    under: readonly string[] = [],
  ): Promise<Ran> =>
    run(
      'nsenter',
      inside(
        namespace,
        ...under,
        process.execPath,
        '--disable-warning=ExperimentalWarning',
        ...COMMAND,
        ...flags,
      ),
    );
  const call = (from: number, host: string, port: number): Promise<string> =>
    enter(from, process.execPath, '-e', CALL, host, String(port));

  beforeAll(async () => {
    [pod, other] = await Promise.all([hold(), hold()]);
    await must(
      'nsenter',
      ...inside(
        other,
        'ip',
        'link',
        'add',
        'eth0',
        'type',
        'veth',
        'peer',
        'name',
        'eth0',
        'netns',
        String(pod),
      ),
    );
    for (const [namespace, { v4, v6 }] of [
      [other, HERE],
      [pod, POD],
    ] as const) {
      await enter(namespace, 'ip', 'link', 'set', 'lo', 'up');
      await enter(namespace, 'ip', 'addr', 'add', `${v4}/24`, 'dev', 'eth0');
      await enter(namespace, 'ip', 'addr', 'add', `${v6}/64`, 'dev', 'eth0', 'nodad');
      await enter(namespace, 'ip', 'link', 'set', 'eth0', 'up');
    }
    for (const [namespace, ports] of [
      [pod, ['8080', '9000', '7000', '15630']],
      [other, ['8080']],
    ] as const) {
      const child = spawn('nsenter', inside(namespace, process.execPath, '-e', LISTEN, ...ports), {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(child);
      await once(child.stdout, 'data');
    }
  }, LIMIT);
  afterAll(() => {
    for (const child of children) child.kill('SIGKILL');
  });

  const FLAGS = ['--redirect', '8080:15630', '--close', '9000'];

  it(
    'are not captured by whoever may not, who is told why; nothing is changed then',
    async () => {
      const { code, output } = await capture(pod, FLAGS, [
        'setpriv',
        '--bounding-set=-net_admin',
        '--inh-caps=-net_admin',
        '--reuid=65534',
        '--clear-groups',
      ]);
      expect(code).toBe(1);
      expect(output).toMatch(/EPERM: it takes the capability NET_ADMIN/);
      expect(await call(other, POD.v4, 8080)).toBe('8080');
    },
    LIMIT,
  );

  it(
    'lead to the proxy or nowhere for all but the pod itself, in IPv4 and IPv6, however often it is asked',
    async () => {
      for (let time = 0; time < 2; time += 1)
        expect(await capture(pod, FLAGS)).toEqual({
          code: 0,
          output: 'inbound TCP is captured: 8080 leads to 15630, 9000 is closed',
        });
      for (const [host, local] of [
        [POD.v4, '127.0.0.1'],
        [POD.v6, '::1'],
      ] as const) {
        const heard = [
          [other, host, 8080],
          [other, host, 9000],
          [other, host, 7000],
          [pod, local, 8080],
          [pod, local, 9000],
          [pod, host, 8080],
          // The proxy's own port: there it would decide by rules for that port, not for the captured one.
          [other, host, 15630],
          [pod, local, 15630],
        ] as const;
        expect(await Promise.all(heard.map(([from, at, port]) => call(from, at, port)))).toEqual([
          ...['15630', 'nothing', '7000', '8080', '9000', '8080', 'nothing', '15630'],
        ]);
      }
      // Its own calls are not caught, to a captured number neither.
      expect(await call(pod, HERE.v4, 8080)).toBe('8080');
    },
    LIMIT,
  );

  it(
    'stay closed to what comes around the redirection',
    async () => {
      await enter(
        pod,
        'nft',
        'add table inet around; add chain inet around raw { type filter hook prerouting priority raw; }; add rule inet around raw tcp dport 8080 notrack',
      );
      expect(await call(other, POD.v4, 8080)).toBe('nothing');
      expect(await call(other, POD.v6, 8080)).toBe('nothing');
      await enter(pod, 'nft', 'delete table inet around');
      expect(await call(other, POD.v4, 8080)).toBe('15630');
    },
    LIMIT,
  );

  it(
    'are those of the last time alone, and of no other table',
    async () => {
      await enter(pod, 'nft', 'add table ip mine');
      expect((await capture(pod, ['--redirect', '7000:15630'])).code).toBe(0);
      const [eighty, seventy] = await Promise.all([call(other, POD.v4, 8080), call(other, POD.v4, 7000)]);
      expect([eighty, seventy]).toEqual(['8080', '15630']);
      expect((await enter(pod, 'nft', 'list', 'tables')).split('\n').sort()).toEqual([
        'table inet signet',
        'table ip mine',
      ]);
    },
    LIMIT,
  );
});

describe('ports to capture', () => {
  it.each([
    [['--redirect', '8080']],
    [['--redirect', '8080:0']],
    [['--close', '70000']],
    [['--redirect', '1:2:3']],
  ])('cannot be written as %j', async (flags) => {
    const said: string[] = [];
    const command = proxyCaptureCommand({ stdout: () => undefined } as never)
      .exitOverride()
      .configureOutput({ writeErr: (text) => void said.push(text) });
    await expect(command.parseAsync(flags, { from: 'user' })).rejects.toMatchObject({
      code: 'commander.invalidArgument',
    });
    expect(said.join('')).toMatch(/is no port/);
  });
});
