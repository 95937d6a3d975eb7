import { encodePem } from '../identity/pki/pem.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { formatJwtBundle } from '../identity/spiffe/bundle-document.js';
import type { BundleUpdate } from '../rpc/node-api.js';

/** A trust bundle in the forms in which it is handed out, each made once, on first use, and shared by all messages. */
export interface HandedBundle {
  readonly bundle: TrustBundle;
  /** The SPIFFE ID of its trust domain: the key of bundle maps. */
  readonly id: string;
  /** CA certificates, DER, concatenated. */
  readonly x509: Uint8Array;
  /** JWKS with the JWT-SVID keys alone. */
  readonly jwks: Uint8Array;
  /** CA certificates, PEM, concatenated. */
  readonly pem: Uint8Array;
}

/** The own bundle and the foreign ones, as the server last sent them. */
export class Bundles {
  #own: HandedBundle | undefined;
  #foreign: ReadonlyMap<string, HandedBundle> = new Map();

  get own(): HandedBundle | undefined {
    return this.#own;
  }

  apply(update: BundleUpdate): void {
    this.#own = this.#own?.bundle === update.own ? this.#own : handed(update.own);
    const foreign = new Map<string, HandedBundle>();
    for (const bundle of update.federated) {
      // Nobody but ourselves says who our authorities are.
      if (bundle.trustDomain === update.own.trustDomain) continue;
      const before = this.#foreign.get(bundle.trustDomain);
      foreign.set(bundle.trustDomain, before?.bundle === bundle ? before : handed(bundle));
    }
    this.#foreign = foreign;
  }

  /** The own bundle, or that of a foreign trust domain. */
  of(trustDomain: string): TrustBundle | undefined {
    const own = this.#own?.bundle;
    return own?.trustDomain === trustDomain ? own : this.#foreign.get(trustDomain)?.bundle;
  }

  /** The bundles of these foreign trust domains, in order of name; those that are not here are left out. */
  foreign(trustDomains: Iterable<string>): readonly HandedBundle[] {
    return [...new Set(trustDomains)]
      .sort()
      .map((name) => this.#foreign.get(name))
      .filter((bundle) => bundle !== undefined);
  }
}

function handed(bundle: TrustBundle): HandedBundle {
  let jwks: Uint8Array | undefined;
  let pem: Uint8Array | undefined;
  return {
    bundle,
    id: `spiffe://${bundle.trustDomain}`,
    x509: Uint8Array.from(Buffer.concat(bundle.x509Authorities)),
    get jwks() {
      return (jwks ??= new TextEncoder().encode(formatJwtBundle(bundle)));
    },
    get pem() {
      return (pem ??= new TextEncoder().encode(
        bundle.x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join(''),
      ));
    },
  };
}
