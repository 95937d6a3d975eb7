import { Command, Option } from 'commander';
import { join } from 'node:path';
import { SignetError } from '../../lib/errors.js';
import { connectUnix, type AdminClient } from '../../rpc/client.js';
import { AuthorityKind, AuthoritySlot, type Authority } from '../../rpc/gen/signet/admin/v1/admin.js';
import type { TrustDomain } from '../../resources/identity.js';
import { addClusterOptions, type ClusterFlags } from '../cluster.js';
import { changeClusterCa, readClusterTrustDomain } from '../cluster-ca.js';
import { requireSocket, withConnection } from '../endpoint.js';
import type { CliIo } from '../io.js';
import { answer, distance, outputOption, table, time, type OutputFormat } from '../output.js';

interface CaOptions extends ClusterFlags {
  readonly state?: string;
  readonly cluster?: true;
  readonly output: OutputFormat;
  readonly kind?: 'x509' | 'jwt';
}

const KINDS = { x509: AuthorityKind.AUTHORITY_KIND_X509, jwt: AuthorityKind.AUTHORITY_KIND_JWT } as const;

/** `signet ca show|rotate|taint|revoke`. */
export function caCommand(io: CliIo): Command {
  const ca = new Command('ca').description(
    'See and rotate the authorities of a running server, or of a cluster.',
  );
  withOptions(ca.command('show'))
    .description('Print the authorities, their slots and when they end.')
    .action(async (options: CaOptions) => {
      if (isAboutCluster(io, options)) {
        tellCluster(io, options, await readClusterTrustDomain(io, options));
        return;
      }
      const { trustDomain, bundleSequence, authorities } = await withAdmin(io, options, (admin) =>
        admin.listAuthorities({}),
      );
      const value = { trustDomain, bundleSequence, authorities: authorities.map(plain) };
      answer(io, options.output, value, () => authorityTable(authorities, io.clock.now()));
    });
  withOptions(ca.command('rotate'))
    .description('Prepare, publish and activate a new authority. The old one stays trusted until it ends.')
    .addOption(new Option('--kind <kind>', 'which; both unless said').choices(['x509', 'jwt']))
    .action(async (options: CaOptions) => {
      if (isAboutCluster(io, options)) {
        const { kind } = options;
        const request = { action: 'rotate', ...(kind === undefined ? {} : { kind }) } as const;
        tellCluster(io, options, await changeClusterCa(io, options, request));
        return;
      }
      const kind =
        options.kind === undefined ? AuthorityKind.AUTHORITY_KIND_UNSPECIFIED : KINDS[options.kind];
      const { authorities } = await withAdmin(io, options, (admin) => admin.rotateAuthority({ kind }));
      answer(io, options.output, { authorities: authorities.map(plain) }, () =>
        authorityTable(authorities, io.clock.now()),
      );
    });
  withOptions(ca.command('taint'))
    .description('Mark an old authority as not to be trusted for long: all it signed is replaced at once.')
    .argument('<id>', 'as `signet ca show` prints it')
    .action(async (id: string, options: CaOptions) => {
      if (isAboutCluster(io, options)) {
        tellCluster(io, options, await changeClusterCa(io, options, { action: 'taint', id }));
        return;
      }
      const { authority } = await withAdmin(io, options, async (admin) =>
        admin.taintAuthority({ kind: await kindOf(admin, id), id }),
      );
      const changed = authority === undefined ? [] : [authority];
      answer(io, options.output, { authorities: changed.map(plain) }, () =>
        authorityTable(changed, io.clock.now()),
      );
    });
  withOptions(ca.command('revoke'))
    .description('Take a tainted authority out of the bundle: nothing that it signed is trusted any more.')
    .argument('<id>', 'as `signet ca show` prints it')
    .action(async (id: string, options: CaOptions) => {
      if (isAboutCluster(io, options)) {
        tellCluster(io, options, await changeClusterCa(io, options, { action: 'revoke', id }));
        return;
      }
      const { authority } = await withAdmin(io, options, async (admin) =>
        admin.revokeAuthority({ kind: await kindOf(admin, id), id }),
      );
      const changed = authority === undefined ? [] : [authority];
      answer(io, options.output, { authorities: changed.map(plain) }, () =>
        authorityTable(changed, io.clock.now()),
      );
    });
  return ca;
}

/** A cluster is meant where one is named; by kubectl's plugin, unless a state directory is. */
function isAboutCluster({ environment }: CliIo, { state, cluster, kubeconfig, context }: CaOptions): boolean {
  if (cluster === true || kubeconfig !== undefined || context !== undefined) return true;
  return state === undefined && environment['SIGNET_KUBECTL_PLUGIN'] !== undefined;
}

function tellCluster(io: CliIo, { output }: CaOptions, { spec, status }: TrustDomain): void {
  const { authorities = [], bundleSequence, conditions = [], request } = status ?? {};
  const value = { trustDomain: spec.name, bundleSequence, authorities, conditions, request };
  answer(io, output, value, () =>
    [
      table(
        ['KIND', 'SLOT', 'ID', 'EXPIRES', 'STATE'],
        authorities.map(({ kind, slot, id, notAfter, tainted, revoked }) => [
          kind === 'X509' ? 'X.509' : 'JWT',
          slot,
          id,
          `${notAfter} (${distance(io.clock.now(), Date.parse(notAfter))})`,
          revoked ? 'revoked' : tainted ? 'tainted' : 'ok',
        ]),
      ),
      // What is as it should be needs no words.
      ...conditions.filter((one) => one.status !== 'True').map((one) => `${one.reason}: ${one.message}`),
    ].join('\n'),
  );
}

function withOptions(command: Command): Command {
  return addClusterOptions(command)
    .option('--cluster', 'those of the cluster that kubectl is set to, rather than of a state directory')
    .option('--state <directory>', 'state directory of the server (default: SIGNET_STATE, else .signet)')
    .addOption(outputOption());
}

async function withAdmin<T>(
  io: CliIo,
  options: CaOptions,
  use: (admin: AdminClient) => Promise<T>,
): Promise<T> {
  const directory = options.state ?? io.environment['SIGNET_STATE'] ?? '.signet';
  const socket = join(directory, 'admin.sock');
  // grpc-js wants an absolute path; the shell's working directory is ours.
  const path = socket.startsWith('/') ? socket : join(io.environment['PWD'] ?? '/', socket);
  requireSocket(path, 'no server runs on this state directory; start signet dev, or say which with --state');
  return withConnection(connectUnix(path, { deadlineMs: 30_000 }), (connection) => use(connection.admin()));
}

/** Authorities are named by ID alone; which kind it is, the server knows. */
async function kindOf(admin: AdminClient, id: string): Promise<AuthorityKind> {
  const { authorities } = await admin.listAuthorities({});
  const found = authorities.find((authority) => authority.id === id);
  if (found === undefined) {
    throw new SignetError('AuthorityUnknown', `no authority has the ID "${id}"; see \`signet ca show\``);
  }
  return found.kind;
}

function slotName(slot: AuthoritySlot): string {
  switch (slot) {
    case AuthoritySlot.AUTHORITY_SLOT_PREPARED:
      return 'Prepared';
    case AuthoritySlot.AUTHORITY_SLOT_ACTIVE:
      return 'Active';
    case AuthoritySlot.AUTHORITY_SLOT_OLD:
      return 'Old';
    case AuthoritySlot.AUTHORITY_SLOT_UNSPECIFIED:
    case AuthoritySlot.UNRECOGNIZED:
      return '-';
  }
}

function plain(authority: Authority): Record<string, unknown> {
  return {
    kind: authority.kind === AuthorityKind.AUTHORITY_KIND_X509 ? 'X509' : 'JWT',
    id: authority.id,
    slot: slotName(authority.slot),
    notBefore: time(authority.notBefore),
    notAfter: time(authority.notAfter),
    tainted: authority.tainted,
    revoked: authority.revoked,
    keyType: authority.keyType,
    subject: authority.subject,
  };
}

function authorityTable(authorities: readonly Authority[], now: number): string {
  return table(
    ['KIND', 'SLOT', 'ID', 'KEY', 'EXPIRES', 'STATE'],
    authorities.map((authority) => [
      authority.kind === AuthorityKind.AUTHORITY_KIND_X509 ? 'X.509' : 'JWT',
      slotName(authority.slot),
      authority.id,
      authority.keyType,
      `${time(authority.notAfter)} (${distance(now, authority.notAfter)})`,
      authority.revoked ? 'revoked' : authority.tainted ? 'tainted' : 'ok',
    ]),
  );
}
