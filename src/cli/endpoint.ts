import { Option } from 'commander';
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
  const uri = address.startsWith('/') ? `unix://${address}` : address;
  return withConnection(connectRpc(parseEndpointAddress(uri)), (connection) => use(connection.workloadApi()));
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
