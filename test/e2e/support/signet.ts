import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connectUnix, type AdminClient } from '../../../src/rpc/client.js';
import { AuthorityKind, AuthoritySlot } from '../../../src/rpc/gen/signet/admin/v1/admin.js';
import { run, start, type Exit, type Program } from './process.js';
import type { Scope } from './scope.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const bin = join(root, 'bin', 'signet');

export interface ReadyPod {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly socket: string;
  readonly spiffeIDs: readonly string[];
}

/** The line that `signet dev --output json` writes once it serves. */
export interface Ready {
  readonly ready: true;
  readonly trustDomain: string;
  readonly sharedSocket: string;
  readonly bundleFile: string;
  readonly stateDir: string;
  readonly pods: readonly ReadyPod[];
}

/** A `signet dev` that runs. */
export interface Signet {
  readonly process: Program;
  readonly ready: Ready;
  /** A pod's socket, by the pod's name. */
  socket(pod: string): string;
  /** Its administration, over one connection that the scope closes. */
  readonly admin: AdminClient;
  /** SIGTERM, and how it ended. */
  stop(): Promise<Exit>;
}

export interface SignetOptions {
  /** The folder of YAML. */
  readonly resources: string;
  readonly state: string;
  readonly trustDomain?: string;
  /** A command that runs the server's command line, which is added to it. */
  readonly under?: readonly string[];
}

/** Starts `signet dev` and waits until it serves. */
export async function startSignet(scope: Scope, options: SignetOptions): Promise<Signet> {
  const process = spawnSignet(scope, options);
  const ready = await process.line((line) => parseReady(line), { limitMs: 30_000 });
  let admin: AdminClient | undefined;
  return {
    process,
    ready,
    socket(pod): string {
      const found = ready.pods.find(({ name }) => name === pod);
      if (found === undefined)
        throw new Error(`no pod ${pod} among ${ready.pods.map(({ name }) => name).join(', ')}`);
      return found.socket;
    },
    get admin(): AdminClient {
      if (admin === undefined) {
        const connection = connectUnix(join(options.state, 'admin.sock'), { deadlineMs: 20_000 });
        scope.onEnd(() => connection.close());
        admin = connection.admin();
      }
      return admin;
    },
    stop: () => process.kill('SIGTERM'),
  };
}

/** Starts `signet dev` without waiting: for what must not become ready. */
export function spawnSignet(scope: Scope, options: SignetOptions): Program {
  const trustDomain = options.trustDomain === undefined ? [] : ['--trust-domain', options.trustDomain];
  const args = ['dev', options.resources, '--state', options.state, '--output', 'json', ...trustDomain];
  const [first, ...rest] = [...(options.under ?? []), ...signetCommand(args)];
  return start(scope, [first ?? '', ...rest]);
}

/** Runs a command of the program, e.g. `signet ca show`, to its end. */
export function signet(
  scope: Scope,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ exit: Exit; lines: readonly string[]; stderr: string }> {
  return run(scope, signetCommand(args), { env });
}

/** The ID of the X.509 authority that signs now. */
export async function activeAuthority({ admin }: Signet): Promise<string> {
  const { authorities } = await admin.listAuthorities({});
  const active = authorities.find(
    ({ kind, slot }) =>
      kind === AuthorityKind.AUTHORITY_KIND_X509 && slot === AuthoritySlot.AUTHORITY_SLOT_ACTIVE,
  );
  if (active === undefined) throw new Error('no X.509 authority is active');
  return active.id;
}

/**
 * A forced rotation of the X.509 authority as an operator does it whose authority may be compromised: rotate, then taint
 * the former one, so that everything it signed is replaced at once. Gives the former's ID.
 */
export async function replaceAuthority(server: Signet): Promise<string> {
  const former = await activeAuthority(server);
  await server.admin.rotateAuthority({ kind: AuthorityKind.AUTHORITY_KIND_X509 });
  await server.admin.taintAuthority({ kind: AuthorityKind.AUTHORITY_KIND_X509, id: former });
  return former;
}

/** The command line that runs the built program on this very Node. */
export function signetCommand(args: readonly string[]): readonly [string, ...string[]] {
  assertBuilt();
  return [process.execPath, bin, ...args];
}

let checked = false;

/** A stale dist/ would test yesterday's program. */
function assertBuilt(): void {
  if (checked) return;
  const built = statSync(join(root, 'dist', 'main', 'signet.js'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  for (const entry of readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.endsWith('.test.ts')) continue;
    const file = join(entry.parentPath, entry.name);
    if (statSync(file).mtimeMs > built)
      throw new Error(`dist/ is older than ${file}: run \`npm run build\` first`);
  }
  checked = true;
}

function parseReady(line: string): Ready | undefined {
  if (!line.startsWith('{')) return undefined;
  const value = JSON.parse(line) as Partial<Ready>;
  return value.ready === true ? (value as Ready) : undefined;
}
