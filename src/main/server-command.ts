import { Command, InvalidArgumentError, Option } from 'commander';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import type { CliIo } from '../cli/io.js';
import { systemRandom } from '../lib/random.js';
import { replicaIdentity } from '../server/peers/leader-address.js';
import { argument } from './argument.js';
import { formatListenAddress, parseListenAddress, type ListenAddress } from './listen-address.js';
import type { ServerOptions } from './server.js';
import { createLogger, LOG_LEVELS, type LogFormat, type LogLevel } from './logging.js';

interface ServerFlags {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace: string;
  readonly listenAddress: ListenAddress;
  readonly advertiseAddress?: ListenAddress;
  readonly httpAddress: ListenAddress;
  readonly audience: string;
  readonly bundleConfigmap: string;
  readonly podCertificateSigner: string;
  readonly webhookAddress?: ListenAddress;
  readonly webhookService: string;
  readonly webhookProxyImage?: string;
  readonly webhookCaptureImage?: string;
  readonly agentServiceAccount: { readonly namespace: string; readonly name: string };
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
}

/** `signet server`: the controllers and the certificate authority of a cluster. */
export function serverCommand(io: CliIo, version: string): Command {
  return new Command('server')
    .description('Run the controllers and the certificate authority of a cluster.')
    .option('--kubeconfig <file>', "how the API server is reached (default: the pod's service account)")
    .option('--context <name>', 'a context of the kubeconfig')
    .option('--namespace <name>', "where Signet's own Secrets and Lease are", 'signet-system')
    .addOption(
      new Option('--listen-address <ip:port>', 'where agents reach this server, over mutual TLS')
        .argParser(argument(parseListenAddress))
        .default({ address: '0.0.0.0', port: 8443 }, '0.0.0.0:8443'),
    )
    .addOption(
      new Option(
        '--http-address <ip:port>',
        'where health (/livez, /readyz) and metrics (/metrics) are served',
      )
        .argParser(argument(parseListenAddress))
        .default({ address: '0.0.0.0', port: 8080 }, '0.0.0.0:8080'),
    )
    .option(
      '--advertise-address <ip:port>',
      'where the other replicas reach this one, so that they can tell the leader of the SVIDs that they sign (default: POD_IP and the port of --listen-address)',
      argument(parseListenAddress),
    )
    .option('--audience <name>', "audience of the agents' service-account tokens", 'signet-server')
    .option('--bundle-configmap <name>', 'name of the ConfigMaps with the trust bundle', 'signet-bundle')
    .option(
      '--pod-certificate-signer <name>',
      'whose PodCertificateRequests are signed, and whose ClusterTrustBundle is kept',
      'signet.dev/workload',
    )
    .option(
      '--webhook-address <ip:port>',
      'where the API server asks what is to be added to pods that ask for an identity (default: nowhere)',
      argument(parseListenAddress),
    )
    .option('--webhook-service <name>', 'the Service, in --namespace, by which it asks', 'signet-server')
    .option(
      '--webhook-proxy-image <image>',
      'of Envoy, for pods that ask for a proxy (default: such pods are refused)',
    )
    .option(
      '--webhook-capture-image <image>',
      'of Signet, for pods that ask for captured ports (default: such pods are refused)',
    )
    .addOption(
      new Option('--agent-service-account <namespace/name>', 'the only service account that agents run under')
        .argParser(serviceAccount)
        .default({ namespace: 'signet-system', name: 'signet-agent' }, 'signet-system/signet-agent'),
    )
    .addOption(
      new Option('--log-format <format>', 'how log lines look').choices(['text', 'json']).default('json'),
    )
    .addOption(
      new Option('--log-level <level>', 'how much is logged').choices([...LOG_LEVELS]).default('info'),
    )
    .action((flags: ServerFlags) => run(io, version, flags));
}

async function run(io: CliIo, version: string, flags: ServerFlags): Promise<void> {
  // It brings much along that no other command needs.
  const { startServer } = await import('./server.js');
  const logger = createLogger({ level: flags.logLevel, format: flags.logFormat });
  const random = systemRandom;
  const server = await startServer({
    connection: {
      ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
      ...(flags.context === undefined ? {} : { context: flags.context }),
    },
    namespace: flags.namespace,
    // In a pod the host name is the pod's; what is random tells two processes of one pod apart.
    identity: replicaIdentity(
      hostname(),
      advertised(io, flags),
      Buffer.from(random.bytes(6)).toString('hex'),
    ),
    listen: flags.listenAddress,
    operations: flags.httpAddress,
    version,
    audience: flags.audience,
    bundleConfigMap: flags.bundleConfigmap,
    podCertificateSigner: flags.podCertificateSigner,
    ...webhookOf(flags),
    agentServiceAccount: flags.agentServiceAccount,
    ...{ clock: io.clock, random, logger, signal: io.signal },
  });
  logger.info('the server is ready', {
    trustDomain: server.trustDomain,
    address: formatListenAddress(server.address),
  });
  await server.stopped;
}

function webhookOf(flags: ServerFlags): Pick<ServerOptions, 'webhook'> {
  const { webhookAddress, webhookService, webhookProxyImage, webhookCaptureImage, namespace } = flags;
  if (webhookAddress === undefined) return {};
  const name = `${webhookService}.${namespace}.svc`;
  return {
    webhook: {
      listen: webhookAddress,
      dnsNames: [name, `${name}.cluster.local`],
      ...(webhookProxyImage === undefined ? {} : { proxyImage: webhookProxyImage }),
      ...(webhookCaptureImage === undefined ? {} : { captureImage: webhookCaptureImage }),
    },
  };
}

/** In a pod the address is the pod's own, which its manifest hands over in POD_IP. */
function advertised({ environment }: CliIo, flags: ServerFlags): string | undefined {
  if (flags.advertiseAddress !== undefined) return formatListenAddress(flags.advertiseAddress);
  const address = environment['POD_IP'];
  return address === undefined || isIP(address) === 0
    ? undefined
    : formatListenAddress({ address, port: flags.listenAddress.port });
}

function serviceAccount(text: string): { readonly namespace: string; readonly name: string } {
  const [namespace, name, ...more] = text.split('/');
  if (namespace === undefined || namespace === '' || name === undefined || name === '' || more.length > 0)
    throw new InvalidArgumentError(`"${text}" must be written namespace/name`);
  return { namespace, name };
}
