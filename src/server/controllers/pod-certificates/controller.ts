import type { CertificateAuthority } from '../../../identity/ca/certificate-authority.js';
import { parseCsr } from '../../../identity/pki/csr.js';
import { PkiError } from '../../../identity/pki/errors.js';
import { keyTypeOfSpki } from '../../../identity/pki/keys.js';
import type { Registration } from '../../../identity/registration/registration.js';
import type { Clock } from '../../../lib/clock.js';
import { SignetError } from '../../../lib/errors.js';
import type { Logger } from '../../../lib/logger.js';
import type { Random } from '../../../lib/random.js';
import type { Store, StoredObject } from '../../../store/store.js';
import type { EventRecorder } from '../controller-events.js';
import { createController, type Controller, type ReconcileOutcome } from '../controller.js';
import { planPodCertificate, type PodKnowledge } from './plan.js';
import { publicKeyOf, readPodCertificateRequest, type PodCertificateRequest } from './request.js';
import { isLongEnough, issuedStatus, refusedStatus } from './status.js';

/** Which pod a request is for. */
export type PodReference = Pick<PodCertificateRequest, 'namespace' | 'podName' | 'podUid'>;

/** What the controller asks of the API server. */
export interface PodCertificateApi {
  /**
   * Writes the answer. Resolves with false when there is one already, or the request is gone. Rejects when it could not be
   * written; with code `ApiInvalid` when the API server refuses it.
   */
  answer(request: PodCertificateRequest, status: object): Promise<boolean>;
  /** The request in v1beta1, where that is served: for one without a CSR. */
  inBeta(request: PodCertificateRequest): Promise<StoredObject | undefined>;
}

/** What the controller is made of. */
export interface PodCertificateControllerOptions {
  /** Has the PodCertificateRequests, of this signer or of all. */
  readonly requests: Pick<Store, 'list' | 'get' | 'subscribe'>;
  readonly api: PodCertificateApi;
  /** What is known of the pod of a request; undefined until all pods and identities have been read. */
  readonly knowledgeOf: (request: PodReference) => PodKnowledge | undefined;
  readonly ca: Pick<CertificateAuthority, 'signX509'>;
  /** Told of each certificate. Milliseconds since the epoch. */
  readonly issued: (svid: {
    readonly registrationId: string;
    readonly notBefore: number;
    readonly notAfter: number;
  }) => void;
  readonly signerName: string;
  /** Why nothing may be signed by the clock as it is: the API server would not take it. */
  readonly clockProblem: () => SignetError | undefined;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly observe?: (outcome: ReconcileOutcome, seconds: number) => void;
}

export const POD_CERTIFICATE_REQUEST = 'PodCertificateRequest';
const READ_MS = 1_000;
/** How often a clock that is off is looked at for a request. */
const CLOCK_MS = 10_000;
/** How far before now the CA begins a certificate. */
const BACKDATE_SECONDS = 10;

/**
 * Signs for pods whose key the kubelet holds (KEP-4317). Only the leader does: two would sign twice what is answered once.
 * Should two lead for a moment, the API server takes the first answer alone. For one term of leading: run it, then close it.
 */
export function createPodCertificateController(options: PodCertificateControllerOptions): {
  readonly controller: Controller;
  close(): void;
} {
  const { requests } = options;
  const signer = new PodSigner(options);
  const controller = createController({
    ...options,
    name: 'pod-certificates',
    concurrency: 8,
    reconcile: (key) => signer.reconcile(key),
  });
  const unsubscribe = requests.subscribe((changes) => {
    for (const { kind, key, after } of changes) {
      if (kind !== POD_CERTIFICATE_REQUEST) continue;
      if (after === undefined) signer.forget(key);
      else controller.enqueue(key);
    }
  });
  for (const { metadata } of requests.list(POD_CERTIFICATE_REQUEST))
    controller.enqueue(`${metadata.namespace ?? ''}/${metadata.name}`);
  return { controller, close: unsubscribe };
}

class PodSigner {
  readonly #options: PodCertificateControllerOptions;
  /** Uids of requests that were answered and not seen with their answer yet, by key. */
  readonly #answered = new Map<string, string>();
  /** Uids of those of which it was told why they wait, by key. */
  readonly #told = new Map<string, string>();

  constructor(options: PodCertificateControllerOptions) {
    this.#options = options;
  }

  forget(key: string): void {
    this.#answered.delete(key);
    this.#told.delete(key);
  }

  async reconcile(key: string): Promise<{ readonly requeueAfterMs: number } | undefined> {
    const { requests, knowledgeOf, signerName, clock, logger } = this.#options;
    const object = requests.get(POD_CERTIFICATE_REQUEST, key);
    if (object === undefined) return undefined;
    const request = readPodCertificateRequest(object);
    if (request.answered || this.#answered.get(key) === request.uid) return undefined;
    const skewed = this.#options.clockProblem();
    if (skewed !== undefined) {
      this.#tellWaiting(key, object, request, skewed);
      return { requeueAfterMs: CLOCK_MS };
    }
    const known = knowledgeOf(request);
    if (known === undefined) return { requeueAfterMs: READ_MS };
    const now = clock.now();
    const plan = planPodCertificate(request, known, { signerName, backdateSeconds: BACKDATE_SECONDS, now });
    switch (plan.do) {
      case 'nothing':
        return undefined;
      case 'wait':
        logger.debug('a pod certificate waits', { request: key, reason: plan.why });
        return { requeueAfterMs: plan.ms };
      case 'deny':
        await this.#refuse(key, request, plan.reason, plan.message);
        return undefined;
      case 'sign':
        await this.#sign(key, request, plan.registration, plan.ttlSeconds);
        return undefined;
    }
  }

  /** Once. A refusal would be for good, and the pod would not start when the clock is mended. */
  #tellWaiting(key: string, object: StoredObject, { uid }: PodCertificateRequest, why: SignetError): void {
    if (this.#told.get(key) === uid) return;
    this.#told.set(key, uid);
    const { logger, events } = this.#options;
    logger.warn('a pod certificate waits', { request: key, code: why.code, reason: why.message });
    const { apiVersion, kind, metadata } = object;
    const { name, namespace } = metadata;
    const regarding = { apiVersion, kind, name, uid, ...(namespace === undefined ? {} : { namespace }) };
    events.record({ regarding, type: 'Warning', reason: why.code, action: 'Sign', note: why.message });
  }

  async #sign(
    key: string,
    request: PodCertificateRequest,
    registration: Registration,
    ttlSeconds: number,
  ): Promise<void> {
    const { ca, clock, logger, issued } = this.#options;
    let spki: Uint8Array;
    try {
      spki = await this.#keyOf(request);
    } catch (thrown) {
      if (!(thrown instanceof PkiError)) throw thrown;
      await this.#refuse(
        key,
        request,
        'UnsupportedKeyType',
        `${thrown.message}; ask for keyType ECDSAP256, ECDSAP384, RSA4096 or ED25519`,
      );
      return;
    }
    const { spiffeId, dnsNames } = registration;
    const signed = await ca.signX509({ spki, spiffeId, dnsNames, ttlSeconds });
    if (!isLongEnough(signed))
      throw new SignetError(
        'AuthorityExpiring',
        'the authority that signs ends within the hour that the certificate of a pod must live; the next one signs',
      );
    const status = issuedStatus(signed, spiffeId.uri, clock.now());
    const fields = { request: key, spiffeId: spiffeId.uri, serial: signed.serial };
    if (!(await this.#answer(key, request, status))) return;
    const { notBefore, notAfter } = signed;
    issued({ registrationId: registration.id, notBefore, notAfter });
    logger.info('the certificate of a pod is signed', fields);
  }

  async #keyOf(request: PodCertificateRequest): Promise<Uint8Array> {
    if (request.csr.length > 0) return parseCsr(request.csr).spki;
    const object = await this.#options.api.inBeta(request);
    const spki = object === undefined ? undefined : publicKeyOf(object);
    if (spki === undefined)
      throw new PkiError(
        'CsrInvalid',
        'the request holds neither a CSR nor a public key that is served here',
      );
    keyTypeOfSpki(spki);
    return spki;
  }

  async #refuse(key: string, request: PodCertificateRequest, reason: string, message: string): Promise<void> {
    const { clock, logger } = this.#options;
    logger.warn('the certificate of a pod is denied', { request: key, code: reason, reason: message });
    await this.#answer(key, request, refusedStatus('Denied', reason, message, clock.now()));
  }

  async #answer(key: string, request: PodCertificateRequest, status: object): Promise<boolean> {
    const { api, logger } = this.#options;
    try {
      const written = await api.answer(request, status);
      this.#answered.set(key, request.uid);
      return written;
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      if (code !== 'ApiInvalid') throw thrown;
      // Answered meanwhile, or not to the API server's liking: the same answer again would do no better.
      this.#answered.set(key, request.uid);
      logger.warn('the API server does not take the answer to a pod certificate request', {
        request: key,
        reason: message,
      });
      return false;
    }
  }
}
