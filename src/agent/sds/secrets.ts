import { createHash } from 'node:crypto';
import { encodePem } from '../../identity/pki/pem.js';
import { splitCertificates } from '../../identity/pki/certificate.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { SignetError } from '../../lib/errors.js';
import { Secret, SPIFFECertValidatorConfig } from '../../rpc/gen/envoy/tls/tls.js';
import type { Any } from '../../rpc/gen/google/protobuf/any.js';
import { StatusError } from '../../rpc/service.js';
import type { HandedBundle } from '../bundles.js';
import { chainOf, keyOf } from '../svid.js';
import type { Identity, SubjectView } from '../views.js';

/** The names under which Envoy's configuration asks for things; those of SPIRE's agent unless said. */
export interface SdsNames {
  /** The caller's default X.509-SVID. */
  readonly defaultSvid: string;
  /** The own trust domain's bundle. */
  readonly defaultBundle: string;
  /** All bundles, the own and the foreign ones. */
  readonly allBundles: string;
}

/** How secrets are named and written. */
export interface SecretStyle {
  readonly names: SdsNames;
  /**
   * Bundles for Envoy's SPIFFE certificate validator, which binds each authority to its trust domain. Without it they
   * are plain trusted CAs, which only fits callers that do not know the validator.
   */
  readonly spiffeValidator: boolean;
}

/** A secret as it goes out. */
export interface HandedSecret {
  readonly name: string;
  /** Differs exactly when the content does. */
  readonly version: string;
  readonly resource: Any;
}

export const SECRET_TYPE_URL = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';
const VALIDATOR_TYPE_URL =
  'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig';
const VALIDATOR_NAME = 'envoy.tls.cert_validator.spiffe';

/** Refuses a name that no workload could ever be given. Throws StatusError InvalidArgument. */
export function checkSecretName(name: string, { names, spiffeValidator }: SecretStyle): void {
  const { defaultSvid, defaultBundle, allBundles } = names;
  if (name === allBundles && !spiffeValidator)
    throw new StatusError(
      'InvalidArgument',
      `secret "${name}" needs the SPIFFE certificate validator: without it, each authority would be trusted for every trust domain`,
    );
  if (name === defaultSvid || name === defaultBundle || name === allBundles) return;
  try {
    parseSpiffeId(name);
  } catch (error) {
    throw new StatusError(
      'InvalidArgument',
      `there is no secret of this name; ask for "${defaultSvid}", "${defaultBundle}", "${allBundles}", a SPIFFE ID or the ID of a trust domain: ${SignetError.from(error).message}`,
      { cause: error },
    );
  }
}

/** The names of everything that the subject may have, each under its own ID: what an empty list of names means. */
export function secretNames(view: SubjectView): readonly string[] {
  const bundles = view.ownBundle === undefined ? [] : [view.ownBundle, ...view.foreignBundles];
  return [...new Set([...bundles.map(({ id }) => id), ...view.identities.map(({ svid }) => svid.spiffeId)])];
}

/** The secret of this name, if the subject has it (now). */
export function secretOf(view: SubjectView, name: string, style: SecretStyle): HandedSecret | undefined {
  // Nobody without an identity gets anything, bundles included.
  if (view.registrations.length === 0 || view.ownBundle === undefined) return undefined;
  return view.memo(`sds ${name}`, () => makeSecret(view, view.ownBundle, name, style));
}

function makeSecret(
  view: SubjectView,
  own: HandedBundle | undefined,
  name: string,
  style: SecretStyle,
): HandedSecret | undefined {
  const { defaultSvid, defaultBundle, allBundles } = style.names;
  if (own === undefined) return undefined;
  switch (name) {
    case defaultSvid: {
      // The default may be on its way while a lesser one is here: that one is not the default.
      const [identity] = view.identities;
      return identity === undefined ||
        (identity.registration !== view.registrations[0] && view.completeness === 'partial')
        ? undefined
        : certificateSecret(name, identity);
    }
    case defaultBundle:
      return bundleSecret(name, [own], style);
    case allBundles:
      return bundleSecret(name, [own, ...view.foreignBundles], style);
    default: {
      const bundle = [own, ...view.foreignBundles].find(({ id }) => id === name);
      if (bundle !== undefined) return bundleSecret(name, [bundle], style);
      const identity = view.identities.find(({ svid }) => svid.spiffeId === name);
      return identity === undefined ? undefined : certificateSecret(name, identity);
    }
  }
}

function certificateSecret(name: string, { svid }: Identity): HandedSecret {
  const chain = splitCertificates(chainOf(svid)).map((der) => encodePem('CERTIFICATE', der));
  return handed(name, `${svid.authorityId.slice(0, 8)}-${svid.serial}`, {
    name,
    type: {
      $case: 'tlsCertificate',
      value: {
        certificateChain: inline(chain.join('')),
        privateKey: inline(encodePem('PRIVATE KEY', keyOf(svid))),
      },
    },
  });
}

function bundleSecret(
  name: string,
  bundles: readonly HandedBundle[],
  style: SecretStyle,
): HandedSecret | undefined {
  // An empty trust anchor is refused by Envoy; a trust domain without authorities vouches for nobody.
  const usable = bundles.filter(({ x509 }) => x509.length > 0);
  if (usable.length === 0) return undefined;
  const hash = createHash('sha256');
  for (const { id, x509 } of usable) hash.update(`${id} ${x509.length}\n`).update(x509);
  return handed(name, hash.digest('hex').slice(0, 32), {
    name,
    type: {
      $case: 'validationContext',
      value: style.spiffeValidator
        ? { trustedCa: undefined, customValidatorConfig: validator(usable) }
        : {
            trustedCa: {
              specifier: { $case: 'inlineBytes', value: Buffer.concat(usable.map(({ pem }) => pem)) },
            },
            customValidatorConfig: undefined,
          },
    },
  });
}

function validator(bundles: readonly HandedBundle[]): { name: string; typedConfig: Any } {
  const config = SPIFFECertValidatorConfig.encode({
    trustDomains: bundles.map(({ bundle, pem }) => ({
      name: bundle.trustDomain,
      trustBundle: { specifier: { $case: 'inlineBytes', value: Buffer.from(pem) } },
    })),
  }).finish();
  return { name: VALIDATOR_NAME, typedConfig: { typeUrl: VALIDATOR_TYPE_URL, value: Buffer.from(config) } };
}

function inline(text: string): { specifier: { $case: 'inlineBytes'; value: Buffer } } {
  return { specifier: { $case: 'inlineBytes', value: Buffer.from(text) } };
}

function handed(name: string, version: string, secret: Secret): HandedSecret {
  return {
    name,
    version,
    resource: { typeUrl: SECRET_TYPE_URL, value: Buffer.from(Secret.encode(secret).finish()) },
  };
}
