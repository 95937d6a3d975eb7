/** The services that this project serves and calls, for rooms that wire them up but know no generated code. */
export { AuthorizationService as authorizationService } from './gen/envoy/service/auth/external_auth.js';
export { IdentityService as csiIdentityService, NodeService as csiNodeService } from './gen/csi/csi.js';
export { RegistrationService as kubeletRegistrationService } from './gen/kubelet/pluginregistration.js';
export { AdminService as adminService } from './gen/signet/admin/v1/admin.js';
export { ExtensionConfigDiscoveryServiceService as extensionConfigDiscoveryService } from './gen/envoy/extension/ecds.js';
export { SecretDiscoveryServiceService as secretDiscoveryService } from './gen/envoy/secret/sds.js';
export { SpiffeWorkloadAPIService as workloadApiService } from './gen/spiffe/workload.js';
export { NodeService as nodeService } from './gen/signet/node/v1/node.js';
export { PeerService as peerService } from './gen/signet/peer/v1/peer.js';
