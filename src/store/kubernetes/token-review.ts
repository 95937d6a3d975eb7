import type { KubernetesApi } from './api.js';
import { ApiError } from './api-error.js';

/** What the API server says of a service-account token. */
export interface TokenReviewAnswer {
  readonly authenticated: boolean;
  readonly error?: string;
  readonly username: string;
  readonly audiences: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

const PATH = '/apis/authentication.k8s.io/v1/tokenreviews';
const TIMEOUT_MS = 10_000;

/** Has the API server review tokens (authentication.k8s.io/v1). The token is sent to it and goes nowhere else. */
export function createTokenReviewer(api: KubernetesApi): {
  /** Rejects with ApiError. */
  review(token: string, audience: string): Promise<TokenReviewAnswer>;
} {
  return {
    async review(token, audience) {
      const body = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, audiences: [audience] },
      };
      const { status } = (await api.send({ method: 'POST', path: PATH, body, timeoutMs: TIMEOUT_MS })) as {
        readonly status?: StatusFields;
      };
      if (typeof status !== 'object')
        throw new ApiError('ApiAnswerUnusable', `POST ${PATH}: the answer has no status`);
      return {
        authenticated: status.authenticated === true,
        ...(typeof status.error === 'string' ? { error: status.error } : {}),
        username: typeof status.user?.username === 'string' ? status.user.username : '',
        audiences: texts(status.audiences),
        extra: Object.fromEntries(
          Object.entries(status.user?.extra ?? {}).map(([name, values]) => [name, texts(values)]),
        ),
      };
    },
  };
}

interface StatusFields {
  readonly authenticated?: unknown;
  readonly error?: unknown;
  readonly audiences?: unknown;
  readonly user?: { readonly username?: unknown; readonly extra?: Readonly<Record<string, unknown>> };
}

function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : [];
}
