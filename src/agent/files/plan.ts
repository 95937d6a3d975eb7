import { splitCertificates } from '../../identity/pki/certificate.js';
import { encodePem } from '../../identity/pki/pem.js';
import { SignetError } from '../../lib/errors.js';
import type { HandedBundle } from '../bundles.js';
import { fileNameOf } from '../csi/file-name.js';
import { APPLICATION_SOCKET, fileMode, JWT_DIRECTORY, type VolumeSettings } from '../csi/settings.js';
import type { CachedJwt } from '../jwt-keeper.js';
import { monotonicEnd } from '../rotation.js';
import { chainOf, keyOf } from '../svid.js';
import type { Identity } from '../views.js';
import type { Encoders, StoreForm } from './encoders.js';
import type { LiveFile } from './set-directory.js';

/** Where the bundles of federated trust domains are. */
export const BUNDLES_DIRECTORY = 'bundles';
/** The entry of a keystore: Java programs ask for it by this name. */
export const KEY_ALIAS = 'svid';

/** Of files that are good for as long as nothing else takes their place. */
const ENDLESS = { expiresAt: Infinity, endsAt: Infinity };

/** What the files of one identity are made of. */
export interface IdentityContent {
  /** Where they are: empty for the volume itself, or the directory of a hint. */
  readonly directory: string;
  readonly registrationId: string;
  /** Absent when only tokens are asked for. */
  readonly identity?: Identity;
  readonly bundle: HandedBundle;
  /** Bundles of the trust domains that the identity federates with. */
  readonly federated: readonly HandedBundle[];
  /** By audience. */
  readonly tokens: ReadonlyMap<string, CachedJwt>;
}

/** A file that ought to be there. */
export interface PlannedFile extends LiveFile {
  readonly path: string;
  readonly mode: number;
  make(): Uint8Array | Promise<Uint8Array>;
}

/** What the plan of a volume needs besides identities. */
export interface PlanContext {
  readonly settings: VolumeSettings;
  readonly group: number | undefined;
  readonly encoders: Encoders;
}

/** The directory of the files of an identity that is asked for by hint. */
export function hintDirectory(hint: string): string {
  return fileNameOf(hint);
}

/** The files of one identity. */
export function planIdentity(content: IdentityContent, context: PlanContext): readonly PlannedFile[] {
  const { settings, group } = context;
  const files: PlannedFile[] = [];
  const add = (
    name: string,
    secret: boolean,
    file: Pick<PlannedFile, 'version' | 'make' | 'expiresAt' | 'endsAt'>,
  ): void => {
    const path = content.directory === '' ? name : `${content.directory}/${name}`;
    files.push({ path, mode: fileMode(settings, group, secret), ...file });
  };
  const { identity } = content;
  if (identity !== undefined)
    for (const format of settings.files) {
      if (format === 'pem') planPem(identity, content, context, add);
      else if (format === 'combined')
        add(settings.names.combined, true, {
          ...ofSvid(identity),
          make: () => text(privateKeyPem(identity) + chainPem(identity)),
        });
      else planStores(format, identity, content, context, add);
    }
  for (const [audience, jwt] of content.tokens)
    add(`${JWT_DIRECTORY}/${fileNameOf(audience)}`, true, {
      // The signature says which token it is, and nobody is told by part of it.
      version: jwt.token.slice(-32),
      expiresAt: jwt.expiresAt,
      endsAt: monotonicEnd({ ...jwt, signedAt: jwt.issuedAt, notAfter: jwt.expiresAt }),
      make: () => text(jwt.token),
    });
  return files;
}

type AddFile = (
  name: string,
  secret: boolean,
  file: Pick<PlannedFile, 'version' | 'make' | 'expiresAt' | 'endsAt'>,
) => void;

function planPem(
  identity: Identity,
  { bundle, federated }: IdentityContent,
  { settings: { names }, encoders }: PlanContext,
  add: AddFile,
): void {
  add(names.certificate, false, { ...ofSvid(identity), make: () => text(chainPem(identity)) });
  add(names.key, true, { ...ofSvid(identity), make: () => text(privateKeyPem(identity)) });
  const written = encoders.bundle(bundle);
  // The own trust domain alone: a program that reads a list of authorities would take any of them for any name.
  add(names.ca, false, {
    version: written.authoritiesVersion,
    ...ENDLESS,
    make: () => bundle.pem,
  });
  add(names.bundle, false, ofDocument(bundle, encoders));
  for (const foreign of federated)
    add(
      `${BUNDLES_DIRECTORY}/${bundleFile(foreign.bundle.trustDomain)}`,
      false,
      ofDocument(foreign, encoders),
    );
}

function planStores(
  form: StoreForm,
  identity: Identity,
  { bundle }: IdentityContent,
  { settings, encoders }: PlanContext,
  add: AddFile,
): void {
  const { names, keystorePassword } = settings;
  const { receivedAt } = identity.svid;
  add(form === 'jks' ? names.jksKeystore : names.pkcs12Keystore, true, {
    ...ofSvid(identity),
    make: () =>
      encoders.keystore(
        form,
        { alias: KEY_ALIAS, pkcs8: keyOf(identity.svid), chain: splitCertificates(chainOf(identity.svid)) },
        keystorePassword,
        receivedAt,
      ),
  });
  add(form === 'jks' ? names.jksTruststore : names.pkcs12Truststore, false, {
    version: encoders.bundle(bundle).authoritiesVersion,
    ...ENDLESS,
    make: () => encoders.truststore(form, bundle, keystorePassword, receivedAt),
  });
}

/** The ending goes where the name of a trust domain leaves it no room (255 bytes). */
function bundleFile(trustDomain: string): string {
  return trustDomain.length <= 250 ? `${trustDomain}.json` : trustDomain;
}

function ofSvid({ svid }: Identity): LiveFile {
  return {
    version: `${svid.authorityId}-${svid.serial}`,
    expiresAt: svid.notAfter,
    endsAt: monotonicEnd(svid),
  };
}

function ofDocument(
  handed: HandedBundle,
  encoders: Encoders,
): Pick<PlannedFile, 'version' | 'make' | 'expiresAt' | 'endsAt'> {
  const { document, documentVersion } = encoders.bundle(handed);
  return { version: documentVersion, ...ENDLESS, make: () => document };
}

function chainPem({ svid }: Identity): string {
  return splitCertificates(chainOf(svid))
    .map((der) => encodePem('CERTIFICATE', der))
    .join('');
}

function privateKeyPem({ svid }: Identity): string {
  return encodePem('PRIVATE KEY', keyOf(svid));
}

function text(value: string): Uint8Array {
  return Buffer.from(value);
}

/** The names in a volume that a directory of a hint may not have. */
export function takenNames(settings: VolumeSettings): ReadonlySet<string> {
  const { names, files } = settings;
  const taken = new Set([settings.socket, APPLICATION_SOCKET]);
  if (settings.jwtAudiences.length > 0) taken.add(JWT_DIRECTORY);
  if (files.includes('pem'))
    for (const name of [names.certificate, names.key, names.ca, names.bundle, BUNDLES_DIRECTORY])
      taken.add(name);
  if (files.includes('combined')) taken.add(names.combined);
  if (files.includes('pkcs12')) taken.add(names.pkcs12Keystore).add(names.pkcs12Truststore);
  if (files.includes('jks')) taken.add(names.jksKeystore).add(names.jksTruststore);
  return taken;
}

/**
 * Refuses names that would meet in the volume, or in the directory of a hint.
 *
 * @throws SignetError `VolumeNameTaken`
 */
export function checkNames(settings: VolumeSettings): void {
  const taken = takenNames(settings);
  if (settings.hints !== '*')
    for (const hint of settings.hints)
      if (taken.has(hintDirectory(hint))) throw nameTaken(`hint "${hint}"`, hintDirectory(hint));
  const { names, files } = settings;
  if (!files.includes('pem')) return;
  for (const name of Object.values(names))
    if (name === BUNDLES_DIRECTORY) throw nameTaken('a file', BUNDLES_DIRECTORY);
}

function nameTaken(what: string, name: string): SignetError {
  return new SignetError(
    'VolumeNameTaken',
    `${what} of the volume would be named ${name}, which is taken by another of its files: choose another name`,
  );
}
