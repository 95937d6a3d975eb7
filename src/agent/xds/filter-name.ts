import { StatusError } from '../../rpc/service.js';

/** Which filter is meant by the name of an extension configuration. */
export interface FilterName {
  readonly text: string;
  /** What enforces, for HTTP or for connections without it; or what prepares HTTP requests for it. */
  readonly kind: 'http' | 'network' | 'prepare';
  /** The workload's port that the listener stands for. */
  readonly port?: number;
  readonly plaintext: boolean;
}

/** The most filters that one stream may ask for. */
const MAX_FILTERS = 16;
const NAME = /^signet\/(http|network|prepare)(?:\/([1-9]\d{0,4}))?(\/plaintext)?$/;

/**
 * `signet/http`, `signet/network` or `signet/prepare`, then a port and `plaintext` if wanted: `signet/http/8080`,
 * `signet/network/plaintext`. Throws StatusError InvalidArgument.
 */
export function readFilterName(text: string): FilterName {
  const [, kind, port, plaintext] = NAME.exec(text) ?? [];
  if ((kind !== 'http' && kind !== 'network' && kind !== 'prepare') || Number(port ?? 1) > 65535) {
    throw new StatusError(
      'InvalidArgument',
      `there is no filter ${JSON.stringify(text.slice(0, 100))}; ask for signet/http, signet/network or signet/prepare, with /<port> and /plaintext after it if need be`,
    );
  }
  return {
    text,
    kind,
    plaintext: plaintext !== undefined,
    ...(port === undefined ? {} : { port: Number(port) }),
  };
}

/** Refuses more names than one stream may have. Throws StatusError InvalidArgument. */
export function checkFilterCount(count: number): void {
  if (count > MAX_FILTERS)
    throw new StatusError('InvalidArgument', `one stream may ask for ${MAX_FILTERS} filters`);
}
