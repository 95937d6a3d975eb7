import type { AuthorityInfo, CertificateAuthority } from '../identity/ca/certificate-authority.js';
import type { CaErrorCode } from '../identity/ca/errors.js';
import { CaError } from '../identity/ca/errors.js';
import { JournalError } from '../identity/ca/journal.js';
import { KeyStoreError } from '../identity/keys/errors.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type {
  Authority,
  ListAuthoritiesRequest,
  ListAuthoritiesResponse,
  RevokeAuthorityRequest,
  RevokeAuthorityResponse,
  RotateAuthorityRequest,
  RotateAuthorityResponse,
  TaintAuthorityRequest,
  TaintAuthorityResponse,
} from '../rpc/gen/signet/admin/v1/admin.js';
import { AuthorityKind, AuthoritySlot } from '../rpc/gen/signet/admin/v1/admin.js';
import { callLogger } from '../rpc/request-id.js';
import type { CallContext, StatusName, UnaryHandler } from '../rpc/service.js';
import { StatusError } from '../rpc/service.js';

/** What the Admin service does to the CA. */
export type AdministeredAuthority = Pick<
  CertificateAuthority,
  'trustDomain' | 'bundle' | 'authorities' | 'rotate' | 'taint' | 'revoke'
>;

/** The handlers of `signet.admin.v1.Admin`, by method. */
export interface AdminHandlers {
  readonly listAuthorities: UnaryHandler<ListAuthoritiesRequest, ListAuthoritiesResponse>;
  readonly rotateAuthority: UnaryHandler<RotateAuthorityRequest, RotateAuthorityResponse>;
  readonly taintAuthority: UnaryHandler<TaintAuthorityRequest, TaintAuthorityResponse>;
  readonly revokeAuthority: UnaryHandler<RevokeAuthorityRequest, RevokeAuthorityResponse>;
}

const SLOTS = {
  prepared: AuthoritySlot.AUTHORITY_SLOT_PREPARED,
  active: AuthoritySlot.AUTHORITY_SLOT_ACTIVE,
  old: AuthoritySlot.AUTHORITY_SLOT_OLD,
} as const;

/**
 * The Admin service. Whoever reaches it may do all of it: it belongs on a socket with mode 0600 alone. Each change is
 * logged with the caller as the kernel names it.
 */
export function adminHandlers(options: {
  readonly ca: AdministeredAuthority;
  readonly logger: Logger;
}): AdminHandlers {
  const { ca, logger } = options;
  const change = async <T>(
    what: string,
    fields: { kind: string; authority?: string },
    context: CallContext,
    act: () => Promise<T>,
  ): Promise<T> => {
    const { pid, uid } = context.peer.credentials ?? {};
    const caller = { ...fields, callerPid: pid, callerUid: uid, connection: context.peer.connectionId };
    const log = callLogger(logger, context);
    try {
      const result = await act();
      log.info(`admin: ${what}`, caller);
      return result;
    } catch (error) {
      const { code, message } = SignetError.from(error);
      log.warn(`admin: ${what} refused`, { ...caller, code, reason: message });
      throw statusOf(error);
    }
  };

  return {
    listAuthorities: () =>
      Promise.resolve({
        trustDomain: ca.trustDomain,
        bundleSequence: ca.bundle.value.sequence,
        authorities: ca.authorities().map(toMessage),
      }),

    async rotateAuthority(request, context) {
      const kind =
        request.kind === AuthorityKind.AUTHORITY_KIND_UNSPECIFIED ? undefined : kindOf(request.kind);
      await change('rotate authority', { kind: kind ?? 'both' }, context, () => ca.rotate(kind));
      return { authorities: ca.authorities().map(toMessage) };
    },

    async taintAuthority(request, context) {
      const [kind, id] = target(request);
      const info = await change('taint authority', { kind, authority: id }, context, () =>
        ca.taint(kind, id),
      );
      return { authority: toMessage(info) };
    },

    async revokeAuthority(request, context) {
      const [kind, id] = target(request);
      const info = await change('revoke authority', { kind, authority: id }, context, () =>
        ca.revoke(kind, id),
      );
      return { authority: toMessage(info) };
    },
  };
}

/** The longest id that is looked at: a hex key ID has 40 characters, a thumbprint 43. */
const MAX_ID_LENGTH = 128;

function target(request: { readonly kind: AuthorityKind; readonly id: string }): ['x509' | 'jwt', string] {
  if (request.id === '' || request.id.length > MAX_ID_LENGTH) {
    throw new StatusError(
      'InvalidArgument',
      'id must be the id of an authority, as "signet ca show" prints it',
    );
  }
  return [kindOf(request.kind), request.id];
}

function kindOf(kind: AuthorityKind): 'x509' | 'jwt' {
  if (kind === AuthorityKind.AUTHORITY_KIND_X509) return 'x509';
  if (kind === AuthorityKind.AUTHORITY_KIND_JWT) return 'jwt';
  throw new StatusError('InvalidArgument', 'kind must be X509 or JWT');
}

function toMessage(info: AuthorityInfo): Authority {
  return {
    kind: info.kind === 'x509' ? AuthorityKind.AUTHORITY_KIND_X509 : AuthorityKind.AUTHORITY_KIND_JWT,
    id: info.id,
    slot: SLOTS[info.slot],
    tainted: info.tainted,
    revoked: info.revoked,
    notBefore: info.notBefore,
    notAfter: info.notAfter,
    keyType: info.keyType,
    subject: info.subject,
  };
}

/** What is no refusal of a state that the operator can change, which is the rule. */
const STATUS: Readonly<Partial<Record<CaErrorCode, StatusName>>> = {
  AuthorityNotFound: 'NotFound',
  SignRequestInvalid: 'InvalidArgument',
  AuthorityLimit: 'ResourceExhausted',
  CaClosed: 'Unavailable',
  PublishFailed: 'Unavailable',
  SelfCheckFailed: 'Internal',
  AuthorityKeyMismatch: 'Internal',
};

/** The CA's errors keep their words, since these name the fix; anything else stays for the log. */
function statusOf(error: unknown): StatusError {
  if (error instanceof CaError) return withStatus(STATUS[error.code] ?? 'FailedPrecondition', error);
  if (error instanceof JournalError || error instanceof KeyStoreError)
    return withStatus('Unavailable', error);
  return new StatusError('Internal', 'the server could not do it; its log says why', { cause: error });
}

function withStatus(status: StatusName, error: SignetError): StatusError {
  return new StatusError(status, error.message, { code: error.code, cause: error });
}
