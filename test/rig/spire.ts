/** The real SPIRE, server and agent, as a peer of benchmarks; and a load client for both. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile, chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../support/until.js';
import { built, type Part } from './cache.js';
import { startDaemon, type Daemon } from './daemon.js';
import { freePorts } from './free-ports.js';
import { startLineProgram } from './line-program.js';
import { goBuild, goBuildStatic, goModule, run } from './tools.js';

const engines = join(dirname(fileURLToPath(import.meta.url)), 'engines');
const folder = join(engines, 'spire');
const clusterFolder = join(engines, 'spire-cluster');
const lockFiles = ['go.mod', 'go.sum', 'cloudsql-proxy'].map((name) => join(folder, name));

/** Only benchmarks need them, so nobody builds them unasked. */
export const spireParts = {
  spire: {
    name: 'spire',
    sources: lockFiles,
    cost: 'about 11 minutes of CPU',
    async build(output: string): Promise<void> {
      // Its SQLite is C.
      await run('gcc', ['--version'], { why: 'a C compiler', skip: 'spire' });
      for (const program of ['spire-server', 'spire-agent']) {
        await goBuild(folder, `github.com/spiffe/spire/cmd/${program}`, join(output, program));
      }
    },
  },
  'spire-load': {
    name: 'spire-load',
    sources: [...lockFiles, join(folder, 'load')],
    cost: 'a minute of CPU',
    build: (output: string) => goBuild(folder, './load', join(output, 'spire-load')),
  },
  'spire-cluster': {
    name: 'spire-cluster',
    sources: [clusterFolder],
    cost: 'about 2 minutes of CPU',
    async build(output: string): Promise<void> {
      const manager = 'github.com/spiffe/spire-controller-manager';
      await goBuildStatic(clusterFolder, './csi', join(output, 'spire-csi'));
      await goBuildStatic(clusterFolder, `${manager}/cmd`, join(output, 'spire-controller-manager'));
      const crds = join(await goModule(clusterFolder, manager), 'config', 'crd', 'bases');
      const texts = (await readdir(crds)).map((name) => readFile(join(crds, name), 'utf8'));
      await writeFile(join(output, 'crds.yaml'), (await Promise.all(texts)).join('\n---\n'));
    },
  },
} satisfies Record<string, Part>;

const TRUST_DOMAIN = 'bench.test';

export interface SpireOptions {
  /** How often the agent asks for its entries and the server for what is in its database, e.g. `100ms`; SPIRE's 5 s unless said. */
  readonly interval?: string;
}

/** A server and an agent of its own node; of users that have no entry, the agent knows nothing. */
export interface Spire {
  readonly serverPid: number;
  /**
   * Creates an entry for each of so many workloads that run already and ask every `retryMs`: how long after the request for it
   * each had its X.509-SVID, in ms. Needs root.
   */
  wait(options: {
    readonly count: number;
    readonly perSecond: number;
    readonly retryMs: number;
  }): Promise<readonly number[]>;
  /** Attests one more agent, with so many entries: `sign` is of these. */
  attest(count: number): Promise<void>;
  /** Has so many SVIDs signed over mutual TLS, `atOnce` batches of `size` under way: how long each batch took, in ms. */
  sign(options: {
    readonly count: number;
    readonly size: number;
    readonly atOnce: number;
  }): Promise<readonly number[]>;
  close(): Promise<void>;
}

/** Starts it; builds it first where it is not there. Its limits of signatures a second are off. */
export async function startSpire(options: SpireOptions = {}): Promise<Spire> {
  const programs = await built(spireParts.spire);
  const client = join(await built(spireParts['spire-load']), 'spire-load');
  const home = await mkdtemp(join(tmpdir(), 'spire-'));
  // Workloads of other users look up the agent's socket in it.
  await chmod(home, 0o755);
  const [port = 0] = await freePorts(1);
  const load = startLineProgram(client, []);
  const daemons: Daemon[] = [];
  const close = async (): Promise<void> => {
    await load.close();
    for (const daemon of daemons.reverse()) await daemon.stop();
    await rm(home, { recursive: true, force: true });
  };
  const adminSocket = join(home, 'server', 'api.sock');
  const ask = (what: object): Promise<unknown> =>
    load.ask({
      ...{ trustDomain: TRUST_DOMAIN, socket: adminSocket, address: `127.0.0.1:${port}` },
      ...{ agentSocket: join(home, 'agent', 'api.sock'), ...what },
    });
  try {
    for (const name of ['server', 'agent']) await mkdir(join(home, name));
    await writeFile(join(home, 'server.conf'), serverConfig(home, port, options));
    const server = startDaemon(
      join(programs, 'spire-server'),
      ['run', '-config', join(home, 'server.conf')],
      join(home, 'server.log'),
    );
    daemons.push(server);
    const { pem } = (await answers(server, () => ask({ do: 'bundle' }))) as { readonly pem: string };
    await writeFile(join(home, 'bundle.pem'), pem);
    const joined = (await ask({ do: 'token' })) as { readonly token: string; readonly agent: string };
    await writeFile(join(home, 'agent.conf'), agentConfig(home, port, options));
    const agent = startDaemon(
      join(programs, 'spire-agent'),
      ['run', '-config', join(home, 'agent.conf'), '-joinToken', joined.token],
      join(home, 'agent.log'),
    );
    daemons.push(agent);
    await answers(agent, async () => {
      if (!(await agent.log()).includes('Starting Workload and SDS APIs'))
        throw new Error('its sockets are not there yet');
      return true;
    });
    // Above any user of the machine.
    let firstUid = 300_000;
    const asked = async (question: {
      readonly do: string;
      readonly count: number;
    }): Promise<readonly number[]> => {
      const { ms } = (await ask({ ...question, agent: joined.agent, firstUid })) as {
        readonly ms: readonly number[];
      };
      firstUid += question.count;
      return ms;
    };
    return {
      serverPid: server.pid,
      wait: (wanted) => asked({ do: 'wait', ...wanted }),
      async attest(count): Promise<void> {
        await ask({ do: 'attest', count, firstUid });
        firstUid += count;
      },
      sign: (wanted) => asked({ do: 'sign', ...wanted }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Asks until there is an answer; the failure says what the program has said. */
async function answers<T>(program: Daemon, ask: () => Promise<T>): Promise<NonNullable<T>> {
  let ended = false;
  try {
    const answer = await until('an answer', async () => {
      ended = program.ended() !== undefined;
      return ended ? true : ((await ask()) ?? false);
    });
    if (!ended) return answer as NonNullable<T>;
    throw new Error(`ended: ${program.ended() ?? ''}`);
  } catch (error) {
    throw new Error(`SPIRE does not start: ${String(error)}\n${await program.log()}`, { cause: error });
  }
}

function serverConfig(home: string, port: number, { interval }: SpireOptions): string {
  const often =
    interval === undefined
      ? ''
      : `experimental { cache_reload_interval = "${interval}" events_based_cache = true }`;
  return `server {
  bind_address = "127.0.0.1"
  bind_port = "${port}"
  socket_path = "${home}/server/api.sock"
  trust_domain = "${TRUST_DOMAIN}"
  data_dir = "${home}/server"
  ca_key_type = "ec-p256"
  ratelimit { signing = false attestation = false }
  ${often}
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${home}/server/data.sqlite3" } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
}
`;
}

function agentConfig(home: string, port: number, { interval }: SpireOptions): string {
  return `agent {
  data_dir = "${home}"
  server_address = "127.0.0.1"
  server_port = "${port}"
  socket_path = "${home}/agent/api.sock"
  trust_bundle_path = "${home}/bundle.pem"
  trust_domain = "${TRUST_DOMAIN}"
  ${interval === undefined ? '' : `experimental { sync_interval = "${interval}" }`}
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`;
}
