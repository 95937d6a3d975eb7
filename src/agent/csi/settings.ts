import { didYouMean } from '../../lib/did-you-mean.js';
import { SignetError } from '../../lib/errors.js';
import { fileNameOf } from './file-name.js';

/** What a volume's attributes have wrong. The message names the attribute and says how to mend it. */
export class VolumeSettingsError extends SignetError {}

/** Forms in which identities are written as files. */
export type FileFormat = 'pem' | 'combined' | 'pkcs12' | 'jks';

/** Names of the files of one identity, each relative to the volume (or to the directory of a hint). */
export interface VolumeFileNames {
  readonly certificate: string;
  readonly key: string;
  readonly ca: string;
  readonly bundle: string;
  readonly combined: string;
  readonly pkcs12Keystore: string;
  readonly pkcs12Truststore: string;
  readonly jksKeystore: string;
  readonly jksTruststore: string;
}

/** What a pod asks of its volume. Plain data: it is kept as JSON while the volume lives. */
export interface VolumeSettings {
  /** File name of the Workload API socket. */
  readonly socket: string;
  /** Empty: sockets only. In the order of {@link FILE_FORMATS}, each once. */
  readonly files: readonly FileFormat[];
  readonly names: VolumeFileNames;
  readonly keystorePassword: string;
  /** Each is a file `jwt/<fileNameOf(audience)>`. */
  readonly jwtAudiences: readonly string[];
  /** Of the identity that the files are of; the pod's default identity unless set. */
  readonly hint?: string;
  /** Identities that get directories of their own, named `fileNameOf(hint)`; `*` is all that have a hint. */
  readonly hints: readonly string[] | '*';
  /** Permission bits of the files; unset: by the volume's group, see {@link fileMode}. */
  readonly mode?: number;
  /** The same for files that hold a private key or a token. */
  readonly keyMode?: number;
}

export const FILE_FORMATS: readonly FileFormat[] = ['pem', 'combined', 'pkcs12', 'jks'];

/** The application API's socket, which every volume has. */
export const APPLICATION_SOCKET = 'authz.sock';

/** Where JWT-SVIDs are. */
export const JWT_DIRECTORY = 'jwt';

const MOST_AUDIENCES = 16;
const MOST_HINTS = 64;
const LONGEST_HINT = 256;
/** Encoded, it is a file name. */
const LONGEST_FILE_NAME = 255;
const LONGEST_VALUE = 20_000;
const LONGEST_PASSWORD = 128;
/** Read for all, write for the owner: more would be more than a read-only volume can give. */
const MODE_BITS = 0o644;
/** Beyond it, the path of a socket in the agent's own directory would not fit a socket address (unix(7)). */
const LONGEST_SOCKET = 40;

/** One attribute as the documentation shows it. */
export interface VolumeAttribute {
  readonly default: string;
  readonly says: string;
}

/** All attributes of a volume, in the order of the documentation. */
export const VOLUME_ATTRIBUTES = {
  socket: {
    default: 'api.sock',
    says: 'File name of the Workload API socket: `socket` for Istio, `spire-agent.sock` for what expects SPIRE.',
  },
  files: {
    default: '',
    says: 'Forms in which the identity is written as files, separated by commas: `pem`, `combined`, `pkcs12`, `jks`.',
  },
  certificateName: { default: 'tls.crt', says: '`pem`: file name of the certificate chain.' },
  keyName: { default: 'tls.key', says: '`pem`: file name of the private key.' },
  caName: { default: 'ca.crt', says: '`pem`: file name of the authorities of the trust domain.' },
  bundleName: { default: 'bundle.json', says: '`pem`: file name of the SPIFFE bundle.' },
  combinedName: { default: 'tls.pem', says: '`combined`: file name of key and certificate chain in one.' },
  keystoreName: {
    default: 'keystore.p12, keystore.jks',
    says: '`pkcs12` or `jks`: file name of the keystore. Not with both forms at once.',
  },
  truststoreName: {
    default: 'truststore.p12, truststore.jks',
    says: '`pkcs12` or `jks`: file name of the truststore. Not with both forms at once.',
  },
  keystorePassword: {
    default: 'changeit',
    says: '`pkcs12` and `jks`: password of the stores, 6 to 128 printable ASCII characters. It is for programs that demand one and protects nothing.',
  },
  jwtAudiences: {
    default: '',
    says: `Audiences, separated by commas, at most ${MOST_AUDIENCES}: each gets a JWT-SVID in a file of its name in \`jwt/\`, percent-encoded where it is not \`[A-Za-z0-9._-]\`.`,
  },
  hint: {
    default: '',
    says: "Hint of the identity that the files are of; the pod's default identity unless set.",
  },
  hints: {
    default: '',
    says: `Hints, separated by commas, at most ${MOST_HINTS}, or \`*\` for all: each of these identities also gets files, in a directory of its name, encoded in the same way.`,
  },
  mode: {
    default: '0440 with an fsGroup, else 0444',
    says: 'Permission bits of the files, octal. The volume is in this pod alone.',
  },
  keyMode: {
    default: 'as `mode`',
    says: 'Permission bits of files that hold a private key or a token, octal.',
  },
} as const satisfies Readonly<Record<string, VolumeAttribute>>;

type AttributeName = keyof typeof VOLUME_ATTRIBUTES;

/** The permission bits of a file of a volume. */
export function fileMode(settings: VolumeSettings, group: number | undefined, secret: boolean): number {
  const otherwise = settings.mode ?? (group === undefined ? 0o444 : 0o440);
  return secret ? (settings.keyMode ?? otherwise) : otherwise;
}

/**
 * Reads the attributes that a pod gives its volume. Those that the kubelet adds (`csi.storage.k8s.io/…`) are not its own
 * and must have been taken away.
 *
 * @throws VolumeSettingsError `VolumeAttributeUnknown`, `VolumeAttributeInvalid`
 */
export function parseVolumeSettings(attributes: Readonly<Record<string, string>>): VolumeSettings {
  for (const [name, value] of Object.entries(attributes)) {
    if (!Object.hasOwn(VOLUME_ATTRIBUTES, name)) throw unknownAttribute(name);
    if (value.length > LONGEST_VALUE) fail(name, `is longer than ${LONGEST_VALUE} characters`, 'shorten it');
  }
  const read = (name: AttributeName): string | undefined => {
    const value = Object.hasOwn(attributes, name) ? attributes[name] : undefined;
    return value === '' ? undefined : value;
  };
  const files = readFormats(read('files'));
  const hint = readHint('hint', read('hint'));
  const mode = readMode('mode', read('mode'));
  const keyMode = readMode('keyMode', read('keyMode'));
  const settings: VolumeSettings = {
    socket: readSocket(read('socket')),
    files,
    names: readNames(read, files),
    keystorePassword: readPassword(read('keystorePassword')),
    jwtAudiences: readAudiences(read('jwtAudiences')),
    ...(hint === undefined ? {} : { hint }),
    hints: readHints(read('hints')),
    ...(mode === undefined ? {} : { mode }),
    ...(keyMode === undefined ? {} : { keyMode }),
  };
  checkTogether(settings);
  return settings;
}

function readSocket(value: string | undefined): string {
  if (value === undefined) return VOLUME_ATTRIBUTES.socket.default;
  checkName('socket', value);
  if (value.length > LONGEST_SOCKET)
    fail('socket', `has ${value.length} characters`, `use at most ${LONGEST_SOCKET}`);
  return value;
}

function readFormats(value: string | undefined): readonly FileFormat[] {
  const asked = new Set(list('files', value));
  for (const one of asked) {
    if ((FILE_FORMATS as readonly string[]).includes(one)) continue;
    const near = didYouMean(one, FILE_FORMATS);
    fail('files', `has ${shown(one)}, which is no form`, `${meant(near)}use ${FILE_FORMATS.join(', ')}`);
  }
  return FILE_FORMATS.filter((format) => asked.has(format));
}

function readNames(
  read: (name: AttributeName) => string | undefined,
  files: readonly FileFormat[],
): VolumeFileNames {
  const name = (attribute: AttributeName, otherwise: string): string => {
    const value = read(attribute);
    if (value === undefined) return otherwise;
    checkName(attribute, value);
    return value;
  };
  for (const attribute of ['keystoreName', 'truststoreName'] as const)
    if (read(attribute) !== undefined && files.includes('pkcs12') && files.includes('jks'))
      fail(attribute, 'would name two files', 'leave it out, or ask for one of pkcs12 and jks');
  return {
    certificate: name('certificateName', VOLUME_ATTRIBUTES.certificateName.default),
    key: name('keyName', VOLUME_ATTRIBUTES.keyName.default),
    ca: name('caName', VOLUME_ATTRIBUTES.caName.default),
    bundle: name('bundleName', VOLUME_ATTRIBUTES.bundleName.default),
    combined: name('combinedName', VOLUME_ATTRIBUTES.combinedName.default),
    pkcs12Keystore: name('keystoreName', 'keystore.p12'),
    pkcs12Truststore: name('truststoreName', 'truststore.p12'),
    jksKeystore: name('keystoreName', 'keystore.jks'),
    jksTruststore: name('truststoreName', 'truststore.jks'),
  };
}

/** keytool wants six characters; anything but ASCII is encoded differently by different readers. */
function readPassword(value: string | undefined): string {
  if (value === undefined) return VOLUME_ATTRIBUTES.keystorePassword.default;
  if (!/^[\x20-\x7e]+$/.test(value) || value.length < 6 || value.length > LONGEST_PASSWORD)
    // The value is not shown: somebody may take it for a secret.
    fail('keystorePassword', 'cannot be used', `give 6 to ${LONGEST_PASSWORD} printable ASCII characters`);
  return value;
}

function readAudiences(value: string | undefined): readonly string[] {
  const audiences = [...new Set(list('jwtAudiences', value))];
  if (audiences.length > MOST_AUDIENCES)
    fail('jwtAudiences', `has ${audiences.length} audiences`, `give at most ${MOST_AUDIENCES}`);
  for (const audience of audiences) checkText('jwtAudiences', audience);
  return audiences;
}

function readHint(attribute: AttributeName, value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  checkText(attribute, value);
  if (value.length > LONGEST_HINT)
    fail(attribute, `has a hint of ${value.length} characters`, `a hint has at most ${LONGEST_HINT}`);
  return value;
}

function readHints(value: string | undefined): readonly string[] | '*' {
  const hints = [...new Set(list('hints', value))];
  if (hints.includes('*')) {
    if (hints.length > 1) fail('hints', 'has * and hints', 'write * alone for all of them');
    return '*';
  }
  if (hints.length > MOST_HINTS)
    fail('hints', `has ${hints.length} hints`, `give at most ${MOST_HINTS}, or *`);
  for (const hint of hints) readHint('hints', hint);
  return hints;
}

function readMode(attribute: AttributeName, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (!/^0?[0-7]{3}$/.test(value))
    fail(attribute, `is ${shown(value)}`, 'write octal permission bits in quotes, e.g. "0440"');
  const mode = Number.parseInt(value, 8);
  if ((mode & ~MODE_BITS) !== 0 || (mode & 0o444) === 0)
    fail(attribute, `is ${shown(value)}`, 'give bits of 0644 that let somebody read, e.g. "0440"');
  return mode;
}

/** What is fine by itself must not meet another thing of the volume under one name. */
function checkTogether(settings: VolumeSettings): void {
  const taken = new Map<string, string>([[APPLICATION_SOCKET, 'the socket of the application API']]);
  const take = (name: string, attribute: AttributeName): void => {
    const by = taken.get(name);
    if (by !== undefined) fail(attribute, `names ${name}, which is ${by}`, 'choose another name');
    taken.set(name, `the name that ${attribute} gives`);
  };
  take(settings.socket, 'socket');
  if (settings.jwtAudiences.length > 0) take(JWT_DIRECTORY, 'jwtAudiences');
  for (const [name, attribute] of filesOf(settings)) take(name, attribute);
  if (settings.hints !== '*') for (const hint of settings.hints) take(fileNameOf(hint), 'hints');
  if (settings.files.length === 0 && settings.hints.length > 0)
    fail('hints', 'is set, but files is not', `set files to what you want: ${FILE_FORMATS.join(', ')}`);
}

/** The files that will be written, each with the attribute that names it. */
function filesOf({ files, names }: VolumeSettings): readonly (readonly [string, AttributeName])[] {
  const by: Readonly<Record<FileFormat, readonly (readonly [string, AttributeName])[]>> = {
    pem: [
      [names.certificate, 'certificateName'],
      [names.key, 'keyName'],
      [names.ca, 'caName'],
      [names.bundle, 'bundleName'],
    ],
    combined: [[names.combined, 'combinedName']],
    pkcs12: [
      [names.pkcs12Keystore, 'keystoreName'],
      [names.pkcs12Truststore, 'truststoreName'],
    ],
    jks: [
      [names.jksKeystore, 'keystoreName'],
      [names.jksTruststore, 'truststoreName'],
    ],
  };
  return files.flatMap((format) => by[format]);
}

/** A leading dot is for temporary and hidden files of our own. */
function checkName(attribute: AttributeName, value: string): void {
  if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/.test(value))
    fail(
      attribute,
      `is ${shown(value)}`,
      'give a file name of at most 64 letters, digits, ".", "_" and "-" that does not begin with "."',
    );
}

function checkText(attribute: AttributeName, value: string): void {
  if (/\p{Cc}/u.test(value) || !value.isWellFormed())
    fail(attribute, `has ${shown(value)}, with a control character`, 'remove it');
  if (fileNameOf(value).length > LONGEST_FILE_NAME)
    fail(attribute, `has ${shown(value)}`, `it must fit a file name of ${LONGEST_FILE_NAME} bytes, encoded`);
}

/** The parts of a list, without white space around them. */
function list(attribute: AttributeName, value: string | undefined): readonly string[] {
  if (value === undefined || value.trim() === '') return [];
  const parts = value.split(',').map((part) => part.trim());
  if (parts.includes('')) fail(attribute, 'has an empty part', 'remove the comma that is too many');
  return parts;
}

function unknownAttribute(name: string): VolumeSettingsError {
  const known = Object.keys(VOLUME_ATTRIBUTES);
  return new VolumeSettingsError(
    'VolumeAttributeUnknown',
    `volume attribute ${shown(name)} is not known: ${meant(didYouMean(name, known))}known are ${known.join(', ')}`,
  );
}

function meant(near: string | undefined): string {
  return near === undefined ? '' : `did you mean ${near}? `;
}

function fail(attribute: string, problem: string, fix: string): never {
  throw new VolumeSettingsError('VolumeAttributeInvalid', `volume attribute ${attribute} ${problem}: ${fix}`);
}

/** Short, and with nothing in it that a terminal or a log takes for something else. */
function shown(value: string): string {
  return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}…` : value).replaceAll(
    /[^\x20-\x7e…]/gu,
    (one) => `\\u{${(one.codePointAt(0) ?? 0).toString(16)}}`,
  );
}
