import { Option } from 'commander';
import { existsSync } from 'node:fs';
import { parseEndpointAddress } from '../identity/spiffe/endpoint-address.js';
import { SignetError } from '../lib/errors.js';
import { connectRpc, type RpcConnection, type WorkloadApiClient } from '../rpc/client.js';
import type { CliIo } from './io.js';

/** `--socket ADDRESS`: where the Workload API is; SPIFFE_ENDPOINT_SOCKET unless said (SPIFFE_Workload_Endpoint §4). */
export function socketOption(): Option {
  return new Option(
    '--socket <address>',
    'Workload API, e.g. unix:///run/api.sock (default: SPIFFE_ENDPOINT_SOCKET)',
  );
}

/** How long a command waits for an answer: `--timeout`. */
export function timeoutOption(): Option {
  return new Option('--timeout <seconds>', 'how long to wait for an answer').argParser(Number).default(10);
}

/** Connects, calls `use`, and closes the connection whatever happens. */
export async function withWorkloadApi<T>(
  io: CliIo,
  socket: string | undefined,
  use: (api: WorkloadApiClient) => Promise<T>,
): Promise<T> {
  const address = socket ?? io.environment['SPIFFE_ENDPOINT_SOCKET'];
  if (address === undefined || address === '') {
    throw new SignetError(
      'EndpointNotSet',
      'no Workload API address: set SPIFFE_ENDPOINT_SOCKET (e.g. unix:///run/api.sock) or pass --socket',
    );
  }
  // A bare path is what people type; the standard's form is what programs write.
  const endpoint = parseEndpointAddress(address.startsWith('/') ? `unix://${address}` : address);
  if (endpoint.kind === 'unix') {
    requireSocket(
      endpoint.path,
      'no Workload API is there; is the agent (or signet dev) running, and is this its socket?',
    );
  }
  return withConnection(connectRpc(endpoint), (connection) => use(connection.workloadApi()));
}

/** gRPC would say the same, after a while and in its own words. */
export function requireSocket(path: string, advice: string): void {
  if (!existsSync(path)) throw new SignetError('SocketMissing', `${path} does not exist: ${advice}`);
}

/** Uses a connection and closes it. */
export async function withConnection<T>(
  connection: RpcConnection,
  use: (connection: RpcConnection) => Promise<T>,
): Promise<T> {
  try {
    return await use(connection);
  } finally {
    connection.close();
  }
}

/** The first message of a stream; the stream is then cancelled. */
export async function first<T>(stream: AsyncIterable<T>): Promise<T> {
  for await (const message of stream) return message;
  throw new SignetError('StreamEnded', 'the server ended the stream before it sent anything');
}
