import { createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { SpiffeId } from '../spiffe/id.js';
import { parseSpiffeId } from '../spiffe/id.js';
import { reasonOf } from '../keys/files.js';
import type { Certificate } from '../pki/certificate.js';
import { parseCertificate } from '../pki/certificate.js';
import { verifyChain } from '../pki/chain.js';
import { issueCa } from '../pki/issue.js';
import type { KeyPair } from '../pki/keys.js';
import { exportPkcs8, keyPairFromPkcs8, signerOf } from '../pki/keys.js';
import { decodePem } from '../pki/pem.js';
import { CaError } from './errors.js';
import type { UpstreamAnswer, UpstreamAuthority, UpstreamRequest } from './upstream.js';

/** PEM files of an authority that signs ours. They are read anew for each signature, so replacing them is enough. */
export interface DiskUpstreamOptions {
  /** The upstream authority's certificate, then the intermediates up to its root, if there are any. */
  readonly certificateFile: string;
  /** Its private key: PKCS#8, or EC or RSA in OpenSSL's older forms; unencrypted. */
  readonly keyFile: string;
  /** The roots that the trust bundle holds; needed unless the certificate is a root itself. */
  readonly rootsFile?: string;
}

interface Upstream {
  readonly pair: KeyPair;
  readonly certificate: Certificate;
  /** From the upstream authority up, without roots. */
  readonly chain: readonly Uint8Array[];
  readonly roots: readonly Certificate[];
  /** The earliest end on the way to the root. */
  readonly notAfter: number;
}

/** Our authorities become intermediates under an authority whose key lies in a file. */
export function diskUpstream(options: DiskUpstreamOptions): UpstreamAuthority {
  return {
    name: 'disk',

    async lastNotAfter(now) {
      return (await load(options, now)).notAfter;
    },

    async sign(request: UpstreamRequest): Promise<UpstreamAnswer> {
      const upstream = await load(options, request.now);
      checkTrustDomain(options, upstream.certificate, request.trustDomain);
      const certificate = await issueCa({
        signer: signerOf(upstream.pair),
        issuerCertificate: upstream.certificate,
        subjectPublicKey: request.subjectPublicKey,
        trustDomain: request.trustDomain,
        serial: request.serial,
        notBefore: Math.max(request.notBefore, upstream.certificate.notBefore),
        notAfter: Math.min(request.notAfter, upstream.notAfter),
        pathLength: 0,
        commonName: request.commonName,
      });
      return { certificate, intermediates: upstream.chain, roots: upstream.roots.map(({ der }) => der) };
    },
  };
}

async function load(options: DiskUpstreamOptions, now: number): Promise<Upstream> {
  const certificates = await readCertificates(options.certificateFile);
  const [certificate] = certificates;
  if (certificate === undefined) throw invalid(options.certificateFile, 'holds no certificate');
  const pair = await readKey(options.keyFile);
  if (!pair.publicKey.equals(certificate.publicKey)) {
    throw invalid(
      options.keyFile,
      `is not the key of the first certificate in ${options.certificateFile} (${certificate.subjectText})`,
    );
  }
  checkMayIssue(options.certificateFile, certificate);
  const roots =
    options.rootsFile === undefined
      ? certificates.filter(isSelfIssued)
      : await readCertificates(options.rootsFile);
  if (roots.length === 0) {
    throw invalid(
      options.certificateFile,
      `holds no root: ${certificate.subjectText} is an intermediate; name the file with its root as rootsFile`,
    );
  }
  const isRoot = (one: Certificate): boolean => roots.some((root) => Buffer.compare(root.der, one.der) === 0);
  const chain = certificates.filter((one) => !isRoot(one)).map(({ der }) => der);
  const path = checkChain(options, isRoot(certificate) ? [certificate.der] : chain, roots, now);
  return { pair, certificate, chain, roots, notAfter: Math.min(...path.map(({ notAfter }) => notAfter)) };
}

function checkMayIssue(file: string, certificate: Certificate): void {
  const { subjectText } = certificate;
  if (!certificate.isCa) throw invalid(file, `holds ${subjectText}, which is no CA certificate`);
  if (certificate.keyUsage?.has('keyCertSign') === false) {
    throw invalid(file, `holds ${subjectText}, whose key usage does not allow it to sign certificates`);
  }
  if (certificate.pathLength === 0) {
    throw invalid(
      file,
      `holds ${subjectText}, whose path length of 0 allows no authority below it; use one of 1 or more`,
    );
  }
}

/** The way from the upstream authority to its root, root included. */
function checkChain(
  options: DiskUpstreamOptions,
  chain: readonly Uint8Array[],
  roots: readonly Certificate[],
  now: number,
): readonly Certificate[] {
  try {
    return verifyChain({ chain, roots: roots.map(({ der }) => der), now }).path;
  } catch (error) {
    throw invalid(
      options.certificateFile,
      `does not lead to a root in ${options.rootsFile ?? 'the same file'}: ${reasonOf(error)}`,
      error,
    );
  }
}

/** An upstream certificate that names a trust domain must name ours (X509-SVID §4.1). */
function checkTrustDomain(options: DiskUpstreamOptions, certificate: Certificate, trustDomain: string): void {
  for (const uri of certificate.uris) {
    let id: SpiffeId;
    try {
      id = parseSpiffeId(uri);
    } catch {
      continue;
    }
    if (id.trustDomain !== trustDomain) {
      throw invalid(
        options.certificateFile,
        `belongs to trust domain "${id.trustDomain}", not "${trustDomain}"`,
      );
    }
  }
}

async function readCertificates(file: string): Promise<Certificate[]> {
  const text = await readText(file);
  try {
    return decodePem(text, 'CERTIFICATE').map(parseCertificate);
  } catch (error) {
    throw invalid(file, `cannot be used: ${reasonOf(error)}`, error);
  }
}

async function readKey(file: string): Promise<KeyPair> {
  const text = await readText(file);
  if (/ENCRYPTED/.test(text))
    throw invalid(file, 'is encrypted; decrypt it (openssl pkey) into a file of mode 0600');
  try {
    return keyPairFromPkcs8(exportPkcs8(createPrivateKey(text)));
  } catch {
    // No cause: a parser's words may quote the key.
    throw invalid(
      file,
      'holds no usable private key; it must be PEM, EC P-256 or P-384, Ed25519, or RSA of 2048 or 4096 bits',
    );
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw invalid(file, `cannot be read: ${reasonOf(error)}`, error);
  }
}

function isSelfIssued(certificate: Certificate): boolean {
  return Buffer.compare(certificate.issuer, certificate.subject) === 0;
}

function invalid(file: string, problem: string, cause?: unknown): CaError {
  return new CaError(
    'UpstreamInvalid',
    `upstream authority: ${file} ${problem}`,
    cause === undefined ? undefined : { cause },
  );
}
