import { createHash } from 'node:crypto';
import type { KeyEntry, TrustedEntry } from '../../identity/pki/keystore/entries.js';
import { encodeJksKeystore, encodeJksTruststore } from '../../identity/pki/keystore/jks.js';
import { encodePkcs12Keystore, encodePkcs12Truststore } from '../../identity/pki/keystore/pkcs12.js';
import { formatBundleDocument } from '../../identity/spiffe/bundle-document.js';
import type { Random } from '../../lib/random.js';
import type { HandedBundle } from '../bundles.js';

/** Key stores that are encoded at a time: each keeps a thread busy, and other work needs threads too. */
const MOST_AT_A_TIME = 2;

/** A bundle as files say it. */
interface WrittenBundle {
  /** The SPIFFE bundle document, and its digest. */
  readonly document: Uint8Array;
  readonly documentVersion: string;
  /** Digest of the authorities. */
  readonly authoritiesVersion: string;
  readonly trusted: readonly TrustedEntry[];
  /** Truststores made already, by form and password. */
  readonly stores: Map<string, Promise<Uint8Array>>;
}

export type StoreForm = 'pkcs12' | 'jks';

/** Encodes what files hold. Shared by all volumes: what they have in common is made once, and never too much at a time. */
export class Encoders {
  readonly #random: Random;
  readonly #bundles = new WeakMap<HandedBundle, WrittenBundle>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  bundle(handed: HandedBundle): WrittenBundle {
    let written = this.#bundles.get(handed);
    if (written === undefined) {
      written = writeBundle(handed);
      this.#bundles.set(handed, written);
    }
    return written;
  }

  keystore(form: StoreForm, entry: KeyEntry, password: string, createdAt: number): Promise<Uint8Array> {
    return this.#inTurn(async () =>
      form === 'jks'
        ? encodeJksKeystore(entry, password, createdAt, this.#random)
        : encodePkcs12Keystore(entry, password, this.#random),
    );
  }

  truststore(
    form: StoreForm,
    handed: HandedBundle,
    password: string,
    createdAt: number,
  ): Promise<Uint8Array> {
    const { stores, trusted } = this.bundle(handed);
    const key = `${form} ${password}`;
    let made = stores.get(key);
    if (made === undefined) {
      made = this.#inTurn(async () =>
        form === 'jks'
          ? encodeJksTruststore(trusted, password, createdAt)
          : encodePkcs12Truststore(trusted, password, this.#random),
      );
      // A password of a pod's own is as a rule in one volume only.
      if (stores.size < MOST_STORES) {
        stores.set(key, made);
        made.catch(() => stores.delete(key));
      }
    }
    return made;
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= MOST_AT_A_TIME) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      return await work();
    } finally {
      // Whoever waits takes the place over.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}

/** Truststores kept of one bundle. */
const MOST_STORES = 8;

function writeBundle({ bundle, x509 }: HandedBundle): WrittenBundle {
  const document = new TextEncoder().encode(formatBundleDocument(bundle));
  return {
    document,
    documentVersion: digest(document),
    authoritiesVersion: digest(x509),
    trusted: bundle.x509Authorities.map((certificate) => ({
      // The same authority has the same alias whatever comes and goes beside it.
      alias: `${bundle.trustDomain}-${digest(certificate).slice(0, 16)}`,
      certificate,
    })),
    stores: new Map(),
  };
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
