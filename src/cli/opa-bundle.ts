import { createPrivateKey, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { opaBundle, type BundleSigner, type OpaBundle } from '../access/mesh/opa/bundle.js';
import type { RenderContext } from '../access/mesh/renderer.js';
import { SignetError } from '../lib/errors.js';
import { readUserFile } from './files.js';

/** Options of `render` that are about the archive of OPA. */
export interface BundleFlags {
  readonly bundle?: string;
  readonly jwtPayload?: string;
  readonly signingKey?: string;
  readonly signingAlgorithm?: BundleSigner['algorithm'];
  readonly signingKeyId: string;
  readonly signingScope?: string;
}

/**
 * Writes the policies as a bundle to a file, signed where there is a key.
 *
 * @throws SignetError `SigningKeyInvalid`, `FileUnreadable`, `FileUnwritable`
 */
export function writeBundle(context: RenderContext, file: string, flags: BundleFlags): OpaBundle {
  const options = flags.jwtPayload === undefined ? {} : { jwtPayload: flags.jwtPayload };
  const bundle = opaBundle(context, options, signerOf(flags));
  try {
    writeFileSync(file, bundle.archive);
  } catch (thrown) {
    throw new SignetError('FileUnwritable', `cannot write ${file}: ${(thrown as Error).message}`, {
      cause: thrown,
    });
  }
  return bundle;
}

function signerOf(flags: BundleFlags): BundleSigner | undefined {
  const { signingKey, signingAlgorithm, signingKeyId, signingScope } = flags;
  if (signingKey === undefined) return undefined;
  const key = readKey(signingKey);
  const algorithm = signingAlgorithm ?? (key.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256');
  const fits =
    algorithm === 'ES256'
      ? key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
      : key.asymmetricKeyType === 'rsa' && (key.asymmetricKeyDetails?.modulusLength ?? 0) >= 2048;
  if (!fits) {
    const wanted = algorithm === 'ES256' ? 'a P-256 key' : 'an RSA key of 2048 bits or more';
    throw new SignetError('SigningKeyInvalid', `${signingKey}: ${algorithm} needs ${wanted}`);
  }
  return {
    algorithm,
    key,
    keyId: signingKeyId,
    ...(signingScope === undefined ? {} : { scope: signingScope }),
  };
}

function readKey(file: string): KeyObject {
  const pem = readUserFile(file);
  try {
    return createPrivateKey(pem);
  } catch {
    // Without the cause, which may quote what it could not read.
    throw new SignetError('SigningKeyInvalid', `${file} holds no private key that is PEM and not encrypted`);
  }
}
