import { parseEndpointAddress } from '../identity/spiffe/endpoint-address.js';
import type { RpcAddress } from '../rpc/client.js';
import { WorkloadError } from './errors.js';

/** The environment, as far as this library reads it. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a workload finds its Workload API (SPIFFE_Workload_Endpoint §4). */
export const ENDPOINT_VARIABLE = 'SPIFFE_ENDPOINT_SOCKET';

/**
 * The address of the Workload API: what was said in code, else SPIFFE_ENDPOINT_SOCKET.
 *
 * @throws WorkloadError `EndpointMissing`; the errors of `parseEndpointAddress`
 */
export function endpointAddress(
  address: string | undefined,
  // A library is no composition root, yet its users expect the variable to be read for them: here, and only here.
  // eslint-disable-next-line no-restricted-globals
  environment: Environment = process.env,
): RpcAddress {
  const text = address ?? environment[ENDPOINT_VARIABLE];
  if (text === undefined || text === '') {
    throw new WorkloadError(
      'EndpointMissing',
      `no address of the Workload API: set ${ENDPOINT_VARIABLE} (e.g. unix:///run/signet/agent.sock) or give "address"`,
    );
  }
  return parseEndpointAddress(text);
}
