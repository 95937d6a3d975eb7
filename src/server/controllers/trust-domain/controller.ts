import { isDeepStrictEqual } from 'node:util';
import type { CertificateAuthority } from '../../../identity/ca/certificate-authority.js';
import { trustDomainSettings, type TrustDomainSettings } from '../../../cluster/trust-domain.js';
import { sleep, type Clock } from '../../../lib/clock.js';
import { SignetError } from '../../../lib/errors.js';
import type { Logger } from '../../../lib/logger.js';
import type { Random } from '../../../lib/random.js';
import type { Watched } from '../../../lib/watched.js';
import type { AuthorityRequestStatus, TrustDomain, TrustDomainStatus } from '../../../resources/identity.js';
import { STATUS_CONFLICT, type Store } from '../../../store/store.js';
import { rfc3339 } from '../../identity-status.js';
import type { EventRecorder } from '../controller-events.js';
import { oneLine } from '../one-line.js';
import { createController, type Controller, type ReconcileOutcome } from '../controller.js';
import { CA_REQUEST_ANNOTATION, readCaRequest, type CaRequest, type CaRequestProblem } from './request.js';
import { idleTrustDomainStatus, trustDomainStatus, type SealingFacts, type Trouble } from './status.js';

/** The authorities of the cluster, as far as a TrustDomain tells of them and changes them. */
export interface TrustDomainAuthorities {
  /** Undefined until they are open. */
  readonly ca: Watched<ManagedAuthority | undefined>;
  /** Why they are not open, or why what other replicas do cannot be taken over. */
  readonly problem: Watched<SignetError | undefined>;
  /** How their keys are sealed; undefined while it is not known. */
  readonly sealing: Watched<
    { readonly refused: SignetError | undefined; readonly unsealed: SignetError | undefined } | undefined
  >;
  /** Why nothing is signed, though they are open: the shared state has not been seen. */
  staleness(): string | undefined;
  /** Begins with new authorities in place of those that are lost. Rejects `AuthoritiesNotLost` when none are. */
  beginAnew(): Promise<void>;
}

type ManagedAuthority = Pick<
  CertificateAuthority,
  'bundle' | 'taints' | 'problem' | 'authorities' | 'rotate' | 'prepare' | 'activate' | 'taint' | 'revoke'
>;

/** What the controller is made of. */
export interface TrustDomainControllerOptions {
  readonly store: Store;
  /** What the servers run with, as they follow the resource. */
  readonly settings: Watched<TrustDomainSettings>;
  readonly authorities: TrustDomainAuthorities;
  /** This installation, which owns the cluster: `namespace/name` of its Lease. */
  readonly installation: string;
  /** Why the bundle is not wherever it should be. */
  readonly unpublished: Watched<Trouble | undefined>;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly observe?: (outcome: ReconcileOutcome, seconds: number) => void;
}

const KIND = 'TrustDomain';
/** What is not known yet when a replica begins to lead is no news: what its predecessor knew stands meanwhile. */
const SETTLE_MS = 10_000;
/** An authority may become active, and the state stale, without any news. */
const LOOK_MS = 5_000;
/** What others have written shows soon. */
const SEEN_MS = 100;

/**
 * Tells in the status of the TrustDomain what has become of the authorities, and carries out what its annotation
 * `signet.dev/ca-request` asks. For one term of leading: run it, then close it.
 */
export function createTrustDomainController(options: TrustDomainControllerOptions): {
  readonly controller: Controller;
  close(): void;
} {
  const { store, authorities } = options;
  const work = new TrustDomainWork(options);
  const controller = createController({
    ...options,
    name: 'trust-domain',
    // Requests are carried out one at a time.
    concurrency: 1,
    reconcile: async (key, run) => {
      await work.reconcile(key, run.signal);
      return { requeueAfterMs: LOOK_MS };
    },
  });
  const all = (): void => {
    for (const { metadata } of store.list(KIND)) controller.enqueue(metadata.name);
  };
  let endCa: (() => void)[] = [];
  const followCa = (): void => {
    endCa.forEach((end) => end());
    const { value } = authorities.ca;
    endCa =
      value === undefined ? [] : [value.bundle.watch(all), value.taints.watch(all), value.problem.watch(all)];
    all();
  };
  const ends = [
    store.subscribe((changes) => {
      if (changes.some(({ kind }) => kind === KIND)) all();
    }),
    authorities.ca.watch(followCa),
    authorities.problem.watch(all),
    authorities.sealing.watch(all),
    options.unpublished.watch(all),
    options.settings.watch(all),
  ];
  followCa();
  return {
    controller,
    close: () => [...ends, ...endCa].forEach((end) => end()),
  };
}

class TrustDomainWork {
  readonly #options: TrustDomainControllerOptions;
  readonly #settledAt: number;

  constructor(options: TrustDomainControllerOptions) {
    this.#options = options;
    this.#settledAt = options.clock.monotonic() + SETTLE_MS;
  }

  async reconcile(name: string, signal: AbortSignal): Promise<void> {
    const resource = this.#options.store.get(KIND, name) as TrustDomain | undefined;
    if (resource === undefined) return;
    const inForce = this.#inForce();
    if (inForce?.metadata.name !== name) {
      await this.#write(resource, signal, () =>
        idleTrustDomainStatus(this.#facts(resource), this.#idle(resource, inForce)),
      );
      return;
    }
    const asked = readCaRequest(resource.metadata.annotations?.[CA_REQUEST_ANNOTATION]);
    const handled = this.#previous(resource)?.request;
    if (asked !== undefined && asked.nonce !== handled?.nonce) await this.#carryOut(resource, asked, signal);
    else if (handled?.outcome === 'Running')
      // Nobody works on it: one request at a time, and the leader who began it is gone.
      await this.#tell(resource, signal, {
        ...handled,
        outcome: 'Failed',
        message:
          'the server that worked on it ended meanwhile; see in status.authorities what it did, and ask again with another nonce',
      });
    else await this.#tell(resource, signal, handled);
  }

  /** The resource that the servers run with. */
  #inForce(): TrustDomain | undefined {
    const { store, settings } = this.#options;
    const named = (store.list(KIND) as readonly TrustDomain[])
      .filter(({ spec }) => spec.name === settings.value.name)
      .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    return named.find((one) => this.#previous(one)?.authorities !== undefined) ?? named[0];
  }

  #idle({ spec }: TrustDomain, inForce: TrustDomain | undefined): Trouble {
    const { name } = this.#options.settings.value;
    if (inForce !== undefined)
      return {
        reason: 'TrustDomainAmbiguous',
        message: `TrustDomain ${inForce.metadata.name} is in force; delete this one: a server that starts now waits until one is left`,
      };
    return {
      reason: 'TrustDomainForeign',
      message: `the servers run for trust domain "${name}", and their authorities belong to it; spec.name "${spec.name}" needs another installation`,
    };
  }

  /** At most once, whoever leads: that it is begun is written down first. */
  async #carryOut(
    resource: TrustDomain,
    asked: CaRequest | CaRequestProblem,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, logger } = this.#options;
    const base = { nonce: asked.nonce, action: asked.action, time: rfc3339(clock.now()) };
    const finish = async (outcome: 'Succeeded' | 'Failed', message: string): Promise<void> => {
      const fields = { action: asked.action, nonce: asked.nonce, detail: message };
      if (outcome === 'Succeeded') logger.warn('authorities changed on request', fields);
      else logger.warn('a request to change authorities failed', fields);
      this.#record(
        resource,
        outcome === 'Succeeded' ? 'Normal' : 'Warning',
        `Request${outcome}`,
        `${asked.action}: ${message}`,
      );
      await this.#tell(resource, signal, { ...base, outcome, message: oneLine(message) });
    };
    if ('problem' in asked) return finish('Failed', asked.problem);
    await this.#tell(resource, signal, { ...base, outcome: 'Running', message: 'it has begun' });
    if (signal.aborted) return;
    let message: string;
    try {
      message = await this.#act(asked);
    } catch (thrown) {
      const { code, message: reason } = SignetError.from(thrown);
      return finish('Failed', `${code}: ${reason}`);
    }
    return finish('Succeeded', message);
  }

  async #act(request: CaRequest): Promise<string> {
    const { authorities } = this.#options;
    if (authorities.problem.value?.code === 'ClockSkewed') throw authorities.problem.value;
    if (request.action === 'begin-anew') {
      await authorities.beginAnew();
      return 'there are new authorities; what the former ones signed is trusted no more';
    }
    const ca = authorities.ca.value;
    if (ca === undefined)
      throw authorities.problem.value ?? new SignetError('CaClosed', 'the authorities are not open');
    switch (request.action) {
      case 'rotate':
        await ca.rotate(request.kind);
        return `new authorities sign (${request.kind ?? 'x509 and jwt'})`;
      case 'prepare':
        await ca.prepare(request.kind);
        return `a new ${request.kind} authority is prepared and published`;
      case 'activate':
        await ca.activate(request.kind);
        return `the prepared ${request.kind} authority signs`;
      case 'taint':
        await ca.taint(request.kind, request.id);
        return `${request.kind} authority ${request.id} is tainted: what it signed is being replaced`;
      case 'revoke':
        await ca.revoke(request.kind, request.id);
        return `${request.kind} authority ${request.id} is out of the bundle`;
    }
  }

  #facts(resource: TrustDomain): {
    readonly generation: number;
    readonly previous: TrustDomainStatus | undefined;
    readonly now: number;
  } {
    return {
      generation: resource.metadata.generation,
      previous: this.#previous(resource),
      now: this.#options.clock.now(),
    };
  }

  #previous({ metadata }: TrustDomain): TrustDomainStatus | undefined {
    return this.#options.store.status(KIND, metadata.name) as TrustDomainStatus | undefined;
  }

  async #tell(
    resource: TrustDomain,
    signal: AbortSignal,
    request: AuthorityRequestStatus | undefined,
  ): Promise<void> {
    if (this.#isSettling() && isDeepStrictEqual(request, this.#previous(resource)?.request)) return;
    const { authorities, installation, unpublished } = this.#options;
    await this.#write(resource, signal, () =>
      trustDomainStatus({
        ...this.#facts(resource),
        authorities: authorities.ca.value?.authorities(),
        bundleSequence: authorities.ca.value?.bundle.value.sequence,
        trouble: this.#trouble(),
        pending: this.#pending(resource),
        sealing: this.#sealing(resource),
        unpublished: unpublished.value,
        request,
        servedBy: installation,
      }),
    );
  }

  /** Whether the authorities are about to be opened, or the places of the bundle to be looked at, for the first time. */
  #isSettling(): boolean {
    const { authorities, unpublished, clock } = this.#options;
    if (clock.monotonic() >= this.#settledAt || authorities.problem.value !== undefined) return false;
    return authorities.ca.value === undefined || unpublished.value !== undefined;
  }

  /**
   * Over what is there, and over nothing else: a leader that stood still on its way here is none any more, and must not
   * write over what its successor has written.
   */
  async #write(
    resource: TrustDomain,
    signal: AbortSignal,
    statusNow: () => TrustDomainStatus,
  ): Promise<void> {
    const { store, installation, clock } = this.#options;
    for (;;) {
      const previous = this.#previous(resource);
      // The cluster has become another's: this process is about to end.
      if ((previous?.servedBy ?? installation) !== installation) return;
      const status = statusNow();
      try {
        await store.writeStatus(KIND, resource.metadata.name, status, { asSeen: true });
        this.#tellOfReady(resource, previous, status);
        return;
      } catch (thrown) {
        if (SignetError.from(thrown).code !== STATUS_CONFLICT) throw thrown;
      }
      await sleep(clock, SEEN_MS, signal);
    }
  }

  #tellOfReady(
    resource: TrustDomain,
    previous: TrustDomainStatus | undefined,
    status: TrustDomainStatus,
  ): void {
    const before = previous?.conditions?.find(({ type }) => type === 'Ready');
    const after = status.conditions?.find(({ type }) => type === 'Ready');
    if (after === undefined || (after.status === before?.status && after.reason === before.reason)) return;
    this.#record(resource, after.status === 'True' ? 'Normal' : 'Warning', after.reason, after.message);
  }

  #record(
    { apiVersion, kind, metadata }: TrustDomain,
    type: 'Normal' | 'Warning',
    reason: string,
    note: string,
  ): void {
    const regarding = { apiVersion, kind, name: metadata.name, uid: metadata.uid };
    this.#options.events.record({ regarding, type, reason, action: 'Manage', note });
  }

  #trouble(): Trouble | undefined {
    const { authorities } = this.#options;
    const problem = authorities.problem.value ?? authorities.ca.value?.problem.value;
    if (problem !== undefined) return { reason: problem.code, message: problem.message };
    const stale = authorities.staleness();
    return stale === undefined ? undefined : { reason: 'StateStale', message: `nothing is signed: ${stale}` };
  }

  #pending(resource: TrustDomain): Trouble | undefined {
    const { authorities, store } = this.#options;
    if (store.list(KIND).length > 1)
      return {
        reason: 'TrustDomainAmbiguous',
        message:
          'there is more than one TrustDomain; this one is in force, but a server that starts now waits until one is left',
      };
    try {
      trustDomainSettings({ resource });
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      return { reason: code, message: `${message}; what was in force before stays` };
    }
    const refused = authorities.sealing.value?.refused;
    return refused && { reason: refused.code, message: refused.message };
  }

  /** Undefined while it is not known, and nothing new is to be told of it. */
  #sealing({ spec }: TrustDomain): SealingFacts | undefined {
    const { sealing } = this.#options.authorities;
    if (sealing.value === undefined) {
      const trouble = this.#trouble();
      return trouble?.reason.startsWith('KeyEncryption') === true ? { trouble } : undefined;
    }
    const problem = sealing.value.refused ?? sealing.value.unsealed;
    return problem === undefined
      ? { previousMayGo: spec.keyEncryption?.previous !== undefined }
      : { trouble: { reason: problem.code, message: problem.message } };
  }
}
