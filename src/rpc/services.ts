/** The services that this project serves and calls, for rooms that wire them up but know no generated code. */
export { HealthService as healthService } from './gen/grpc/health/v1/health.js';
export { AdminService as adminService } from './gen/signet/admin/v1/admin.js';
export { SecretDiscoveryServiceService as secretDiscoveryService } from './gen/envoy/secret/sds.js';
export { SpiffeWorkloadAPIService as workloadApiService } from './gen/spiffe/workload.js';
