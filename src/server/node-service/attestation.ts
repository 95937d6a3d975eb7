import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import { agentIdOf } from './agent-id.js';
import type { TokenReview, TokenReviewer } from './token-review.js';

/** A pod, as far as attestation asks. */
export interface AgentPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly nodeName: string;
  readonly serviceAccount: string;
}

/** What attestation is made of. */
export interface AttestationOptions {
  readonly trustDomain: string;
  readonly reviewer: TokenReviewer;
  /** Of the token: one that only this server is meant by. */
  readonly audience: string;
  /** Agents run under this service account alone. */
  readonly serviceAccount: { readonly namespace: string; readonly name: string };
  /** The pod as the API server shows it now; undefined when there is none, or it has ended. */
  readonly podOf: (namespace: string, name: string) => AgentPod | undefined;
  readonly clock: Clock;
}

/** An agent that has proved itself. */
export interface AttestedAgent {
  readonly nodeName: string;
  readonly podUid: string;
}

/** Codes of {@link AttestationError}; stable. */
export type AttestationErrorCode =
  /** The token is missing, too long, not valid, or for another audience. */
  | 'TokenRefused'
  /** The token is valid, but of another service account than the agents'. */
  | 'NotAnAgent'
  /** The token does not say, or not truly, on which node its pod is. */
  | 'NodeUnproven'
  /** The same token has come too often. */
  | 'TokenReplayed'
  /** The API server could not be asked; trying again may help. */
  | 'ReviewUnavailable';

/** Why an agent was not believed. Never holds the token. */
export class AttestationError extends SignetError {
  override readonly code: AttestationErrorCode;

  constructor(code: AttestationErrorCode, message: string) {
    super(code, message);
    this.code = code;
  }
}

/** A projected token has about 1,000 to 1,500 bytes. */
const LONGEST_TOKEN = 16 * 1024;
/**
 * An agent that restarts shows the same token until the kubelet renews it; more often than this in so long, it is no agent
 * that restarts.
 */
const USES = 10;
const USES_WITHIN_MS = 10 * 60_000;
const MOST_TOKENS = 20_000;

/**
 * Turns a token into an agent. Rejects with AttestationError. Of an agent that renews its SVID, which it shows, the same token
 * may come as often as it does.
 */
export type Attestation = (token: string, renewing?: boolean) => Promise<AttestedAgent>;

export function createAttestation(options: AttestationOptions): Attestation {
  const uses = new TokenUses(options.clock);
  return async (token, renewing = false) => {
    if (token === '' || token.length > LONGEST_TOKEN)
      throw new AttestationError(
        'TokenRefused',
        `the token has ${token.length} bytes; send the agent's projected token`,
      );
    const review = await options.reviewer.review(token, options.audience).catch((thrown: unknown) => {
      // Without its cause, which may quote what was sent.
      const reason = withoutToken(SignetError.from(thrown).message, token);
      throw new AttestationError('ReviewUnavailable', `the token cannot be reviewed: ${reason}`);
    });
    requireAgent(review, token, options);
    const credential = claim(review, 'credential-id');
    if (!renewing) uses.count(credential);
    return nodeOf(review, options);
  };
}

function requireAgent(
  review: TokenReview,
  token: string,
  { audience, serviceAccount }: AttestationOptions,
): void {
  if (!review.authenticated)
    throw new AttestationError(
      'TokenRefused',
      `the API server does not accept the token: ${withoutToken(review.error ?? 'no reason given', token)}`,
    );
  // A token for the API server itself is authentic for every audience that it is not asked about.
  if (!review.audiences.includes(audience))
    throw new AttestationError(
      'TokenRefused',
      `the token is not for audience "${audience}"; project one with this audience`,
    );
  const { namespace, name } = serviceAccount;
  if (review.username !== `system:serviceaccount:${namespace}:${name}`) {
    throw new AttestationError(
      'NotAnAgent',
      `the token is of ${review.username.slice(0, 300)}, and agents run as service account ${namespace}/${name}`,
    );
  }
}

/** The node by the token's own claims (KEP-4193), which its pod, as the API server shows it, must bear out. */
function nodeOf(
  review: TokenReview,
  { trustDomain, serviceAccount, podOf }: AttestationOptions,
): AttestedAgent {
  const podName = claim(review, 'pod-name');
  const podUid = claim(review, 'pod-uid');
  const nodeName = claim(review, 'node-name');
  if (agentIdOf(trustDomain, nodeName) === undefined)
    throw new AttestationError(
      'NodeUnproven',
      `the token names node "${nodeName.slice(0, 100)}", which is no name of a node`,
    );
  const pod = podOf(serviceAccount.namespace, podName);
  if (pod === undefined || pod.uid !== podUid) {
    throw new AttestationError(
      'NodeUnproven',
      `the token's pod ${serviceAccount.namespace}/${podName} (uid ${podUid}) is not there (any more, or yet)`,
    );
  }
  if (pod.nodeName !== nodeName || pod.serviceAccount !== serviceAccount.name) {
    throw new AttestationError(
      'NodeUnproven',
      `the token says node ${nodeName}, and its pod ${pod.namespace}/${pod.name} is on ${pod.nodeName || 'none'} as ${pod.serviceAccount}`,
    );
  }
  return { nodeName, podUid };
}

function claim({ extra }: TokenReview, name: string): string {
  const values = extra[`authentication.kubernetes.io/${name}`];
  const value = values?.[0];
  if (values?.length !== 1 || value === undefined || value === '') {
    throw new AttestationError(
      'NodeUnproven',
      `the token does not say its ${name}; it must be projected into a pod, by a cluster of Kubernetes 1.32 or later`,
    );
  }
  return value;
}

/** The shortest part of a token that is looked for in what others say. */
const TELLING_PART = 6;
const LONGEST_REASON = 500;

/** What others say of a token, without it and whatever part of it they quote. */
function withoutToken(text: string, token: string): string {
  const hidden = (word: string): string => (word.length >= TELLING_PART && token.includes(word) ? '…' : word);
  const whole = [token, ...token.split('.')].filter(({ length }) => length >= TELLING_PART);
  return whole
    .reduce((rest, part) => rest.replaceAll(part, '…'), text)
    .replaceAll(/[\w.-]+/g, hidden)
    .replaceAll(/[\w-]+/g, hidden)
    .slice(0, LONGEST_REASON);
}

/** How often each token has come of late. */
class TokenUses {
  readonly #clock: Clock;
  /** By credential ID, oldest window first. */
  readonly #windows = new Map<string, { readonly since: number; count: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  count(credentialId: string): void {
    const now = this.#clock.monotonic();
    for (const [id, { since }] of this.#windows) {
      if (now - since < USES_WITHIN_MS && this.#windows.size < MOST_TOKENS) break;
      this.#windows.delete(id);
    }
    const window = this.#windows.get(credentialId) ?? { since: now, count: 0 };
    this.#windows.set(credentialId, window);
    window.count += 1;
    if (window.count > USES) {
      throw new AttestationError(
        'TokenReplayed',
        `the same token has come ${window.count} times within ${USES_WITHIN_MS / 60_000} minutes; it is refused until then`,
      );
    }
  }
}
