/**
 * The library that a Node.js workload imports: identity from the SPIFFE Workload API, mutual TLS that rotates by itself,
 * and authorization of peers and requests. docs/guides/workload-library.md shows how it is used.
 */
export type { TrustBundle } from '../identity/spiffe/bundle.js';
export { parseSpiffeId, spiffeId, type SpiffeId } from '../identity/spiffe/id.js';
export { JwtSvidError, type JwtSvid } from '../identity/spiffe/jwt-svid.js';
export { SignetError } from '../lib/errors.js';
export { RpcError } from '../rpc/client.js';
export { evaluate, type AuditFinding, type DecidedBy, type Decision } from '../access/policy/evaluate.js';
export type { PolicyInput } from '../access/policy/input.js';
export type { AccessRequest, TargetWorkload } from '../access/policy/model.js';
export { compilePolicySet, type PolicySet } from '../access/policy/policy-set.js';
export {
  authorizeAny,
  authorizeId,
  authorizeMemberOf,
  authorizeNamespace,
  authorizeOneOf,
  authorizeServiceAccount,
  type PeerAuthorizer,
  type PeerVerdict,
} from './authorizer.js';
export { ENDPOINT_VARIABLE, type Environment } from './environment.js';
export { PeerError, WorkloadError, type PeerErrorCode, type WorkloadErrorCode } from './errors.js';
export { httpAuthorizer, type PeerRequest, type RequestAuthorizer } from './http-authorizer.js';
export { createJwtSource, type JwtSource, type JwtSourceOptions } from './jwt-source.js';
export {
  createMtlsClient,
  type MtlsClient,
  type MtlsClientOptions,
  type MtlsRequest,
  type MtlsResponse,
} from './mtls-client.js';
export { createMtlsServer, type MtlsHandler, type MtlsServerOptions } from './mtls-server.js';
export { peerIdOf } from './peer.js';
export { connectTls, tlsClientOptions, type TlsClientOptions, type TlsConnectOptions } from './tls-client.js';
export { tlsServerOptions } from './tls-options.js';
export { createTlsServer, guardServer, type GuardOptions } from './tls-server.js';
export type { X509Svid } from './x509-svid.js';
export { createX509Source, type X509Source, type X509SourceOptions } from './x509-source.js';
