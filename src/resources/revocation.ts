import type { Condition, Resource } from './meta.js';

/** What is revoked: exactly one field. */
export interface RevokedSubject {
  /** Every SVID of this SPIFFE ID. */
  readonly spiffeID?: string;
  /** Every SVID of this pod. */
  readonly pod?: {
    readonly namespace: string;
    readonly name: string;
    /** Only the pod with this uid; a later pod of the same name is another one. */
    readonly uid?: string;
  };
  /** One X.509-SVID, by its serial number in lower-case hex. */
  readonly serialNumber?: string;
  /** Everything that this authority has signed, by its id. */
  readonly authorityID?: string;
  /** One token. */
  readonly token?: { readonly issuer: string; readonly id: string };
  /** Every token of this end user. */
  readonly user?: { readonly issuer: string; readonly subject: string };
  /** Every token of this login session (`sid`). */
  readonly session?: { readonly issuer: string; readonly id: string };
}

/** Takes trust away before it runs out, at once and everywhere. */
export interface RevocationSpec {
  readonly subject: RevokedSubject;
  /** Why, for the audit log. */
  readonly reason: string;
  /** RFC 3339: when the revocation ends; for good unless said. */
  readonly until?: string;
}

export interface RevocationStatus {
  readonly conditions?: readonly Condition[];
  /** Since when it holds. */
  readonly effectiveFrom?: string;
  /** How many agents have dropped what is revoked, and said so; of how many that may hold it. */
  readonly agentsReached?: number;
  readonly agentsTotal?: number;
}

export type Revocation = Resource<'Revocation', RevocationSpec> & { readonly status?: RevocationStatus };
