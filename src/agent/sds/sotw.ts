import { createHash } from 'node:crypto';
import type { DiscoveryRequest } from '../../rpc/gen/envoy/discovery/discovery.js';
import { DiscoveryResponse } from '../../rpc/gen/envoy/discovery/discovery.js';
import { callLogger } from '../../rpc/request-id.js';
import type { MessageSink } from '../../rpc/service.js';
import type { CallSession } from '../session.js';
import type { SubjectView } from '../views.js';
import type { HandedSecret, SecretStyle } from './secrets.js';
import { checkSecretName, SECRET_TYPE_URL, secretNames, secretOf } from './secrets.js';
import { checkCount, checkTypeUrl, logRejection, type SdsParts, type Subscriber } from './subscriber.js';

/** The names of a request, each once; empty = all. Throws StatusError InvalidArgument. */
export function readNames(names: readonly string[], style: SecretStyle): readonly string[] {
  checkCount(names.length);
  const unique = [...new Set(names.filter((name) => name !== ''))];
  for (const name of unique) checkSecretName(name, style);
  return unique;
}

/** What of these names is here and what is not. */
export function findSecrets(
  view: SubjectView,
  names: readonly string[],
  style: SecretStyle,
): { readonly found: readonly HandedSecret[]; readonly missing: readonly string[] } {
  const found: HandedSecret[] = [];
  const missing: string[] = [];
  for (const name of names.length === 0 ? secretNames(view) : names) {
    const secret = secretOf(view, name, style);
    if (secret === undefined) missing.push(name);
    else found.push(secret);
  }
  // Everything, and there is nothing: the default is what such a caller lacks first.
  if (names.length === 0 && view.identities.length === 0) missing.push(style.names.defaultSvid);
  return { found, missing };
}

/** One version for all of them: differs when any does. */
export function versionOf(secrets: readonly HandedSecret[]): string {
  const hash = createHash('sha256');
  for (const { name, version } of secrets) hash.update(`${name} ${version}\n`);
  return hash.digest('hex').slice(0, 32);
}

/** The state-of-the-world variant of xDS: each response holds all secrets that are subscribed to. */
export class SotwSubscriber implements Subscriber<DiscoveryRequest> {
  readonly #parts: SdsParts;
  readonly #session: CallSession;
  readonly #sink: MessageSink<DiscoveryResponse>;
  readonly #style: SecretStyle;
  #names: readonly string[] | undefined;
  #node = '';
  #nonce = 0;
  /** The version that was sent last, whether it was taken or rejected: a rejected one is not sent again and again. */
  #sent: string | undefined;
  #served = false;

  constructor(
    parts: SdsParts,
    session: CallSession,
    sink: MessageSink<DiscoveryResponse>,
    style: SecretStyle,
  ) {
    this.#parts = parts;
    this.#session = session;
    this.#sink = sink;
    this.#style = style;
  }

  get asked(): boolean {
    return this.#names !== undefined;
  }

  take(request: DiscoveryRequest): void {
    checkTypeUrl(request.typeUrl);
    this.#node = request.node?.id ?? this.#node;
    // An answer to an older response: the client has a newer one by now, and will answer that.
    if (request.responseNonce !== '' && request.responseNonce !== String(this.#nonce)) return;
    if (request.errorDetail !== undefined)
      logRejection(this.#parts, this.#session, this.#node, request.errorDetail);
    const names = readNames(request.resourceNames, this.#style);
    if (this.#names === undefined || !sameSet(this.#names, names)) this.#sent = undefined;
    this.#names = names;
  }

  async send({ view, waiter }: CallSession): Promise<{ missing: readonly string[]; served: boolean }> {
    const { found, missing } = findSecrets(view, this.#names ?? [], this.#style);
    const version = versionOf(found);
    if (found.length > 0 && version !== this.#sent) {
      this.#sent = version;
      this.#served = true;
      this.#nonce++;
      const response = DiscoveryResponse.encode({
        versionInfo: version,
        resources: found.map(({ resource }) => resource),
        canary: false,
        typeUrl: SECRET_TYPE_URL,
        nonce: String(this.#nonce),
      }).finish();
      await waiter.guard(this.#sink.write(response));
    }
    return { missing, served: this.#served && found.length > 0 };
  }

  giveUp(missing: readonly string[]): Promise<boolean> {
    const { found } = findSecrets(this.#session.view, this.#names ?? [], this.#style);
    if (found.length === 0) return Promise.resolve(false);
    // This variant cannot say "there is none"; the others must not suffer for it.
    callLogger(this.#parts.logger, this.#session).warn('secrets that Envoy asks for are not given to it', {
      node: this.#node.slice(0, 256),
      secrets: missing.slice(0, 16),
    });
    return Promise.resolve(true);
  }
}

function sameSet(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((name) => other.includes(name));
}
