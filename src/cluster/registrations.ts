import type { IdentityResource } from '../identity/registration/identity-rules.js';
import {
  createRegistrationIndex,
  type RegistrationBounds,
  type RegistrationIndex,
} from '../identity/registration/registration-index.js';
import type { StoreReader } from '../store/store.js';
import { podFacts } from './pod-facts.js';
import type { TrustDomainSettings } from './trust-domain.js';

/** What the TrustDomain says for identities that do not say themselves. */
export function registrationBounds({ ttlSeconds, keyTypes }: TrustDomainSettings): RegistrationBounds {
  const { x509Svid, jwtSvid, authority } = ttlSeconds;
  return {
    defaults: { x509TtlSeconds: x509Svid, jwtTtlSeconds: jwtSvid },
    maxX509TtlSeconds: authority,
    keyType: keyTypes.workload,
  };
}

/** Who gets which identity, worked out anew: for those who have no server that keeps it. */
export function readRegistrations(store: StoreReader, settings: TrustDomainSettings): RegistrationIndex {
  const index = createRegistrationIndex({ trustDomain: settings.name, ...registrationBounds(settings) });
  // Selectors before pods, so that each pod is computed once.
  for (const { metadata } of store.list('Namespace'))
    index.applyNamespace(metadata.name, metadata.labels ?? {});
  for (const kind of ['WorkloadIdentity', 'ClusterWorkloadIdentity'])
    for (const object of store.list(kind)) index.applyIdentity(object as unknown as IdentityResource);
  for (const object of store.list('Pod')) {
    const facts = podFacts(object);
    if (facts !== undefined) index.applyPod(facts);
  }
  return index;
}
