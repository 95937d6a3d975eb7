import type { KeyType } from '../identity/pki/keys.js';
import type { Registration } from '../identity/registration/registration.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import { MAX_SIGN_BATCH, type NodeApi, type SignX509Result } from '../rpc/node-api.js';
import { withTimeout } from './deadline.js';
import type { MadeKey } from './key-maker.js';
import type { AgentLimits } from './limits.js';

/** What a batch is signed with. */
export interface X509BatchParts {
  readonly api: Pick<NodeApi, 'signX509'>;
  readonly clock: Clock;
  readonly limits: Pick<AgentLimits, 'requestTimeoutMs'>;
  readonly makeKey: (type: KeyType) => Promise<MadeKey>;
  /** Where a registration does not say. */
  readonly keyType: KeyType;
}

/** The server's answer for one registration, as it was when it was asked. */
export interface X509Answer {
  readonly registration: Registration;
  readonly key: MadeKey;
  readonly result: SignX509Result;
}

/** How long keys are made before other work gets its turn, in milliseconds; and the most keys before that. */
const TURN_MS = 4;
const TURN_KEYS = 16;
/** RSA keys take about a thousand times longer than others: a batch must not wait for many. */
const RSA_BATCH = 4;

/** How many registrations are asked for at once. */
export function x509BatchSize(keyType: KeyType, signBatch: number): number {
  return Math.max(1, Math.min(signBatch, keyType.startsWith('rsa') ? RSA_BATCH : MAX_SIGN_BATCH));
}

/**
 * Makes a key for each registration and has them signed in one request, which both logs call by the same name. Rejects when
 * nothing is known of any of them; gives nothing once `signal` is aborted.
 */
export async function signX509Batch(
  { api, clock, limits, makeKey, keyType }: X509BatchParts,
  registrations: readonly Registration[],
  requestId: string,
  signal: AbortSignal,
): Promise<readonly X509Answer[]> {
  const keys: MadeKey[] = [];
  let turnStart = clock.monotonic();
  for (const registration of registrations) {
    keys.push(await makeKey(registration.keyType ?? keyType));
    if (keys.length % TURN_KEYS === 0 || clock.monotonic() - turnStart > TURN_MS) {
      await new Promise((resolve) => setImmediate(resolve));
      turnStart = clock.monotonic();
    }
    if (signal.aborted) return [];
  }
  if (keys.length === 0) return [];
  const requests = keys.map(({ csr }, at) => ({ registrationId: registrations[at]?.id ?? '', csr }));
  const results = await withTimeout(clock, limits.requestTimeoutMs, signal, 'signing', (stop) =>
    api.signX509(requests, stop, requestId),
  );
  if (results.length !== keys.length)
    throw new SignetError(
      'AnswerInvalid',
      `the server gave ${results.length} answers to ${keys.length} requests`,
    );
  return results.flatMap((result, at) => {
    const [registration, key] = [registrations[at], keys[at]];
    return registration === undefined || key === undefined ? [] : [{ registration, key, result }];
  });
}
