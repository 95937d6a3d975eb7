import { Agent } from 'node:http';
import type { RequestOptions } from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { SignetError } from '../../lib/errors.js';
import { ApiError } from './api-error.js';

/** What one request needs to reach the API server. Holds secrets: never logged. */
export interface Access {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: {
    readonly ca?: string | Buffer;
    readonly cert?: string | Buffer;
    readonly key?: string | Buffer;
    readonly servername?: string;
    readonly rejectUnauthorized?: boolean;
  };
  /** Connects through the proxy that the configuration names, where it names one. */
  readonly proxy?: Agent;
}

/** Where the API server is, and who we are to it. */
export interface Connection {
  /** `https://host:port`, with the prefix that a proxy may want. */
  readonly server: URL;
  /** The namespace that the configuration names, of the pod where we run in one. */
  readonly namespace: string | undefined;
  /** Credentials as they are now: tokens are read again when they are renewed. */
  access(): Promise<Access>;
}

/** Where the configuration is. */
export interface ConnectionOptions {
  /** Path of a kubeconfig; the usual places (`KUBECONFIG`, `~/.kube/config`, the pod's service account) unless said. */
  readonly kubeconfig?: string;
  /** A context of it; the current one unless said. */
  readonly context?: string;
}

/**
 * Reads the configuration as kubectl does, credential plugins included. The library is loaded only when it is needed:
 * most commands never talk to a cluster.
 *
 * @throws ApiError `KubeconfigInvalid`
 */
export async function openConnection(options: ConnectionOptions): Promise<Connection> {
  const { KubeConfig: Config } = await import('@kubernetes/client-node');
  const config = new Config();
  try {
    if (options.kubeconfig === undefined) config.loadFromDefault();
    else config.loadFromFile(options.kubeconfig);
    if (options.context !== undefined) {
      if (config.getContextObject(options.context) === null)
        throw new SignetError('KubeconfigInvalid', `it has no context "${options.context}"`);
      config.setCurrentContext(options.context);
    }
    return connectionOf(config);
  } catch (thrown) {
    const where = options.kubeconfig ?? 'the default kubeconfig';
    throw new ApiError('KubeconfigInvalid', `${where} cannot be used: ${SignetError.from(thrown).message}`, {
      cause: thrown,
    });
  }
}

function connectionOf(config: KubeConfig): Connection {
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new SignetError('KubeconfigInvalid', 'it has no current cluster');
  const server = new URL(cluster.server);
  // What the library makes up where it finds nothing.
  if (server.href === 'http://localhost:8080/')
    throw new SignetError(
      'KubeconfigInvalid',
      'there is none: name one with --kubeconfig or KUBECONFIG, or run in a pod with a service account',
    );
  if (server.protocol !== 'https:')
    throw new SignetError('KubeconfigInvalid', `the server ${server.origin} is not reached by https`);
  return {
    server,
    namespace: config.getContextObject(config.getCurrentContext())?.namespace,
    async access() {
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      const { ca, cert, key, servername, rejectUnauthorized, auth, agent } = options;
      return {
        headers: {
          ...textHeaders(options.headers),
          ...(typeof auth === 'string'
            ? { Authorization: `Basic ${Buffer.from(auth).toString('base64')}` }
            : {}),
        },
        tls: {
          ...pem('ca', ca),
          ...pem('cert', cert),
          ...pem('key', key),
          ...(servername === undefined ? {} : { servername }),
          ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
        },
        ...(cluster.proxyUrl !== undefined && agent instanceof Agent ? { proxy: agent } : {}),
      };
    },
  };
}

function textHeaders(headers: RequestOptions['headers']): Record<string, string> {
  const pairs = Object.entries(headers ?? {});
  return Object.fromEntries(
    pairs.flatMap(([name, value]) => (typeof value === 'string' ? [[name, value]] : [])),
  );
}

function pem<Name extends string>(name: Name, value: unknown): Partial<Record<Name, string | Buffer>> {
  if (typeof value !== 'string' && !Buffer.isBuffer(value)) return {};
  return { [name]: value } as Partial<Record<Name, string | Buffer>>;
}
