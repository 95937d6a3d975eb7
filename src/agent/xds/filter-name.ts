import { StatusError } from '../../rpc/service.js';

/** Which filter is meant by the name of an extension configuration. */
export interface FilterName {
  readonly text: string;
  readonly kind: 'http' | 'network';
  /** The workload's port that the listener stands for. */
  readonly port?: number;
  readonly plaintext: boolean;
}

const NAME = /^signet\/(http|network)(?:\/([1-9]\d{0,4}))?(\/plaintext)?$/;

/**
 * `signet/http` or `signet/network`, then a port and `plaintext` if wanted: `signet/http/8080`, `signet/network/plaintext`.
 * Throws StatusError InvalidArgument.
 */
export function readFilterName(text: string): FilterName {
  const [, kind, port, plaintext] = NAME.exec(text) ?? [];
  if ((kind !== 'http' && kind !== 'network') || Number(port ?? 1) > 65535) {
    throw new StatusError(
      'InvalidArgument',
      `there is no filter ${JSON.stringify(text.slice(0, 100))}; ask for signet/http or signet/network, with /<port> and /plaintext after it if need be`,
    );
  }
  return {
    text,
    kind,
    plaintext: plaintext !== undefined,
    ...(port === undefined ? {} : { port: Number(port) }),
  };
}
