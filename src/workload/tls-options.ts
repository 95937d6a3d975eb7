import {
  createSecureContext,
  type SecureContext,
  type SecureContextOptions,
  type TlsOptions,
} from 'node:tls';
import { encodePem } from '../identity/pki/pem.js';
import { TLS_BOUNDS } from '../rpc/tls/context.js';
import type { X509Source } from './x509-source.js';

/** What both ends put into TLS, as it is at this moment. */
export interface TlsMaterial {
  readonly key: string;
  readonly cert: string;
  /**
   * The authorities of every trust domain that we know: what a server names to its clients, and a first sieve. That an
   * authority vouches only for its own trust domain is checked by us.
   */
  readonly ca: string[];
  /** A bundle may hold an authority that is no root. */
  readonly allowPartialTrustChain: true;
  readonly minVersion: 'TLSv1.3';
  /** No session tickets: a resumed session would let in a peer whose SVID is over, or was never checked for this use. */
  readonly secureOptions: number;
}

/** @throws WorkloadError of `source.svid()` */
export function tlsMaterial(source: X509Source): TlsMaterial {
  const svid = source.svid();
  return {
    key: svid.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: svid.chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
    ca: source
      .bundles()
      .flatMap(({ x509Authorities }) => x509Authorities.map((der) => encodePem('CERTIFICATE', der))),
    allowPartialTrustChain: true,
    ...TLS_BOUNDS,
  };
}

/**
 * Options for `tls.createServer`, `https.createServer` and `http2.createSecureServer`: mutual TLS 1.3 with the SVID of
 * this moment; whoever shows no certificate, or one that no authority of ours signed, fails in the handshake.
 *
 * Give the server to {@link guardServer} before it listens: that checks the SPIFFE ID of each peer and keeps the SVID
 * fresh. Without it every member of every known trust domain is let in.
 */
export function tlsServerOptions(source: X509Source): TlsOptions & SecureContextOptions {
  return { ...tlsMaterial(source), requestCert: true, rejectUnauthorized: true };
}

/** The context of the handshakes of this moment. */
export function serverContext(source: X509Source): SecureContext {
  return createSecureContext({ ...tlsMaterial(source), sessionIdContext: 'signet' });
}
