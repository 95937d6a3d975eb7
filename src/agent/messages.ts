import { JWTBundlesResponse, X509BundlesResponse, X509SVIDResponse } from '../rpc/gen/spiffe/workload.js';
import { asBuffer } from './bytes.js';
import { chainOf, keyOf } from './svid.js';
import type { SubjectView } from './views.js';

/** The whole X.509 state of a subject, encoded (Workload API §5.2.1): the default identity first. */
export function x509SvidMessage(view: SubjectView): Uint8Array {
  return view.bytes('x509', () => {
    const bundle = asBuffer(view.ownBundle?.x509 ?? new Uint8Array());
    return X509SVIDResponse.encode({
      svids: view.identities.map(({ registration, svid }) => ({
        spiffeId: svid.spiffeId,
        x509Svid: asBuffer(chainOf(svid)),
        x509SvidKey: asBuffer(keyOf(svid)),
        bundle,
        hint: registration.hint,
      })),
      crl: [],
      federatedBundles: Object.fromEntries(view.foreignBundles.map(({ id, x509 }) => [id, asBuffer(x509)])),
    }).finish();
  });
}

/** The X.509 bundles by trust domain ID (§5.2.2): the own one always, and those federated with. */
export function x509BundlesMessage(view: SubjectView): Uint8Array {
  return view.bytes('x509-bundles', () =>
    X509BundlesResponse.encode({
      crl: [],
      bundles: Object.fromEntries(allBundles(view).map(({ id, x509 }) => [id, asBuffer(x509)])),
    }).finish(),
  );
}

/** The JWT bundles by trust domain ID (§6.2.2): JWKS without keys of other uses. */
export function jwtBundlesMessage(view: SubjectView): Uint8Array {
  return view.bytes('jwt-bundles', () =>
    JWTBundlesResponse.encode({
      bundles: Object.fromEntries(allBundles(view).map(({ id, jwks }) => [id, asBuffer(jwks)])),
    }).finish(),
  );
}

function allBundles(view: SubjectView): SubjectView['foreignBundles'] {
  return view.ownBundle === undefined ? [] : [view.ownBundle, ...view.foreignBundles];
}
