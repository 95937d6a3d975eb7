/** What the API server says of a service-account token (authentication.k8s.io/v1 TokenReview). */
export interface TokenReview {
  readonly authenticated: boolean;
  /** Why not, in the API server's words. */
  readonly error?: string;
  /** `system:serviceaccount:<namespace>:<name>`. */
  readonly username: string;
  /** Those asked for that the token has. */
  readonly audiences: readonly string[];
  /** `authentication.kubernetes.io/pod-uid` and the like. */
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

/** Asks the API server about tokens. Rejects when it cannot be asked. */
export interface TokenReviewer {
  review(token: string, audience: string): Promise<TokenReview>;
}
