import type { CertificateAuthority } from '../../identity/ca/certificate-authority.js';
import { parseCsr } from '../../identity/pki/csr.js';
import { formatBundleDocument } from '../../identity/spiffe/bundle-document.js';
import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { HandlersOf } from '../../rpc/definition.js';
import {
  BundleUpdate as BundleMessage,
  type AgentSvid,
  type HeldRegistration,
  type SyncUpdate as SyncMessage,
} from '../../rpc/gen/signet/node/v1/node.js';
import { bundleMessage } from '../../rpc/node/bundle-message.js';
import { processFactsFrom } from '../../rpc/node/registration-message.js';
import { asBuffer, jwtResultMessage, x509ResultMessage } from '../../rpc/node/result-message.js';
import { policyParts } from '../../rpc/node/policy-message.js';
import type {
  BundleUpdate,
  NodeApi,
  PolicyUpdate,
  RevocationMark,
  SignJwtResult,
  SignX509Result,
} from '../../rpc/node-api.js';
import { callLogger } from '../../rpc/request-id.js';
import { StatusError, type CallContext } from '../../rpc/service.js';
import type { nodeService } from '../../rpc/services.js';
import { agentIdOf, nodeOfAgent } from './agent-id.js';
import { AttestationError, type AttestedAgent } from './attestation.js';
import {
  AttestationLimits,
  defaultAttestationLimits,
  type AttestationLimitOptions,
} from './attestation-limits.js';
import { CallLimits, defaultAgentCallLimits, type AgentCallLimits } from './call-limits.js';
import type { IssuedSvid } from '../issued-svids.js';
import { differences } from './differences.js';
import { forAgent } from './for-agent.js';
import { streamUntilStopped } from './stream.js';

/** What the node service is made of. */
export interface NodeServiceOptions {
  readonly ca: Pick<CertificateAuthority, 'signX509' | 'bundle' | 'trustDomain'>;
  /** Rejects with AttestationError. */
  readonly attest: (token: string) => Promise<AttestedAgent>;
  /** The same of an agent that shows the SVID which it is to have renewed. */
  readonly attestAgain: (token: string) => Promise<AttestedAgent>;
  /** Whether an agent's pod is on this node now: an agent without one is renewed no more. */
  readonly hasAgent: (nodeName: string) => boolean;
  /** Why an agent is not trusted any more, by its SPIFFE ID; nobody is distrusted unless said. */
  readonly revokedBecause?: (spiffeId: string) => string | undefined;
  /** What a node may see and have signed. */
  readonly nodeApi: (nodeName: string) => NodeApi;
  /** Of the agents' own SVIDs that are signed from now on. */
  readonly agentTtlSeconds: () => number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborted when the server stops: streams end, so that agents follow another replica before this one is gone. */
  readonly stopping?: AbortSignal;
  /** Told what X.509-SVIDs an agent says that it holds. */
  readonly held?: (nodeName: string, svids: readonly IssuedSvid[]) => void;
  /** Told which revocations an agent has taken in. */
  readonly acknowledged?: (nodeName: string, mark: RevocationMark) => void;
  readonly limits?: Partial<AgentCallLimits & AttestationLimitOptions>;
}

/** Nodes whose API is kept; it holds nothing, so it can be made anew. */
const MOST_NODE_APIS = 20_000;

export type NodeServiceHandlers = HandlersOf<typeof nodeService>;

/** The handlers of `signet.node.v1.Node`. Which node a call is about, the caller's verified SPIFFE ID says alone. */
export function nodeServiceHandlers(options: NodeServiceOptions): NodeServiceHandlers {
  const { ca, clock } = options;
  const logger = options.logger.child({ component: 'node-service' });
  const limits = new CallLimits({ ...defaultAgentCallLimits, ...options.limits }, clock);
  const attestations = new AttestationLimits({ ...defaultAttestationLimits, ...options.limits }, clock);
  const encoded = new WeakMap<BundleUpdate, Uint8Array>();
  const nodeApis = new Map<string, NodeApi>();

  const nodeApi = (nodeName: string): NodeApi => {
    const known = nodeApis.get(nodeName);
    if (known !== undefined) return known;
    if (nodeApis.size >= MOST_NODE_APIS) nodeApis.clear();
    const made = options.nodeApi(nodeName);
    nodeApis.set(nodeName, made);
    return made;
  };

  const requireTrusted = (spiffeId: string): void => {
    const why = options.revokedBecause?.(spiffeId);
    if (why !== undefined)
      throw new StatusError('PermissionDenied', `${spiffeId}: ${why}`, { code: 'AgentRevoked' });
  };

  const nodeOf = ({ peer }: CallContext): string => {
    if (peer.spiffeId === undefined) {
      throw new StatusError(
        'Unauthenticated',
        'this call needs the SVID of an agent; call AttestAgent first',
        {
          code: 'AgentUnknown',
        },
      );
    }
    const nodeName = nodeOfAgent(peer.spiffeId, ca.trustDomain);
    requireTrusted(peer.spiffeId.uri);
    if (nodeName !== undefined) return nodeName;
    throw new StatusError('PermissionDenied', `${peer.spiffeId.uri} is not the SPIFFE ID of an agent`, {
      code: 'NotAnAgent',
    });
  };

  /** The same for all agents, so written once. */
  const encodedOnce = (update: BundleUpdate): Uint8Array => {
    const known = encoded.get(update);
    if (known !== undefined) return known;
    const bytes = BundleMessage.encode(bundleMessage(update)).finish();
    encoded.set(update, bytes);
    return bytes;
  };

  const issue = async (nodeName: string, csr: Uint8Array): Promise<AgentSvid> => {
    const spiffeId = agentIdOf(ca.trustDomain, nodeName);
    if (spiffeId === undefined)
      throw new StatusError('PermissionDenied', `"${nodeName}" is no name of a node`, {
        code: 'NodeUnproven',
      });
    requireTrusted(spiffeId.uri);
    const { spki } = parsedCsr(csr);
    const signed = await ca.signX509({ spki, spiffeId, dnsNames: [], ttlSeconds: options.agentTtlSeconds() });
    return {
      chain: signed.chain.map(asBuffer),
      notBefore: signed.notBefore,
      notAfter: signed.notAfter,
      bundle: formatBundleDocument(ca.bundle.value),
      spiffeId: spiffeId.uri,
      nodeName,
    };
  };

  return {
    async attestAgent({ token, csr }, context) {
      const { peer } = context;
      const log = callLogger(logger, context);
      const from = { remoteAddress: peer.remoteAddress };
      try {
        const { nodeName, podUid } = await attestations.run(peer.remoteAddress ?? '', () => {
          // Before the token is spent on it.
          parsedCsr(csr);
          return options.attest(token);
        });
        const svid = await issue(nodeName, csr);
        log.info('agent attested', { ...from, nodeName, podUid });
        return svid;
      } catch (thrown) {
        const { code, message } = SignetError.from(thrown);
        log.warn('agent refused', { ...from, code, reason: message });
        throw statusOf(thrown);
      }
    },

    async renew({ csr, token }, context) {
      const nodeName = nodeOf(context);
      limits.renewing(nodeName);
      if (!options.hasAgent(nodeName)) {
        throw new StatusError('PermissionDenied', `no pod of the agent is on node ${nodeName} (any more)`, {
          code: 'AgentGone',
        });
      }
      try {
        parsedCsr(csr);
        // Or else an SVID that was stolen once could be renewed for as long as the node has an agent.
        const proved = await attestations.run(`agent of ${nodeName}`, () => options.attestAgain(token));
        if (proved.nodeName !== nodeName)
          throw new AttestationError(
            'NodeUnproven',
            `the token is of the agent of node ${proved.nodeName}, and the SVID of that of node ${nodeName}`,
          );
        return await issue(nodeName, csr);
      } catch (thrown) {
        throw statusOf(thrown);
      }
    },

    async sync({ held, knowsContainers }, context, sink) {
      const nodeName = nodeOf(context);
      const end = limits.stream(nodeName, 'sync');
      try {
        options.held?.(nodeName, heldSvids(held));
        const updates = (signal: AbortSignal): AsyncIterable<SyncMessage> =>
          differences(held, forAgent(knowsContainers === true, nodeApi(nodeName).sync(signal)));
        const write = (part: SyncMessage): Promise<void> => {
          // It may have been revoked since.
          nodeOf(context);
          return sink.write(part);
        };
        await streamUntilStopped(updates, write, context.signal, options.stopping);
      } finally {
        end();
      }
    },

    async watchBundles(_, context, sink) {
      const nodeName = nodeOf(context);
      const end = limits.stream(nodeName, 'bundles');
      try {
        const updates = (signal: AbortSignal): AsyncIterable<BundleUpdate> =>
          nodeApi(nodeName).bundles(signal);
        await streamUntilStopped(
          updates,
          (update) => {
            nodeOf(context);
            return sink.write(encodedOnce(update));
          },
          context.signal,
          options.stopping,
        );
      } finally {
        end();
      }
    },

    async watchPolicies({ held }, context, sink) {
      const nodeName = nodeOf(context);
      const { policies } = nodeApi(nodeName);
      if (policies === undefined)
        throw new StatusError('Unimplemented', 'this server sends no policies', { code: 'NoPolicies' });
      const end = limits.stream(nodeName, 'policies');
      try {
        const write = async (update: PolicyUpdate): Promise<void> => {
          for (const part of policyParts(update)) {
            nodeOf(context);
            await sink.write(part);
          }
        };
        const updates = (signal: AbortSignal): AsyncIterable<PolicyUpdate> => policies(held, signal);
        await streamUntilStopped(updates, write, context.signal, options.stopping);
      } finally {
        end();
      }
    },

    async signX509({ requests }, context) {
      const nodeName = nodeOf(context);
      return limits.signing(nodeName, requests.length, async () => {
        const results = await nodeApi(nodeName).signX509(requests, context.signal, context.requestId);
        logRefusals(callLogger(logger, context), nodeName, results);
        return { results: results.map(x509ResultMessage) };
      });
    },

    async signJwt({ requests }, context) {
      const nodeName = nodeOf(context);
      return limits.signing(nodeName, requests.length, async () => {
        const results = await nodeApi(nodeName).signJwt(requests, context.signal, context.requestId);
        logRefusals(callLogger(logger, context), nodeName, results);
        return { results: results.map(jwtResultMessage) };
      });
    },

    acknowledge({ revocations }, context) {
      const nodeName = nodeOf(context);
      limits.acknowledging(nodeName);
      if (revocations !== undefined) options.acknowledged?.(nodeName, revocations);
      return Promise.resolve({});
    },

    async explain({ subject, container }, context) {
      const nodeName = nodeOf(context);
      limits.explaining(nodeName);
      if (subject === undefined)
        throw new StatusError('InvalidArgument', 'the request names nobody; set pod_uid or process');
      const about =
        subject.$case === 'podUid'
          ? ({ kind: 'pod', uid: subject.value, ...(container === undefined ? {} : { container }) } as const)
          : ({ kind: 'process', facts: processFactsFrom(subject.value) } as const);
      return { text: (await nodeApi(nodeName).explain?.(about, context.signal)) ?? '' };
    },
  };
}

/** One line for a batch: whose it was, which the log of signing does not know, and what this node does not hold. */
function logRefusals(
  logger: Logger,
  nodeName: string,
  results: readonly (SignX509Result | SignJwtResult)[],
): void {
  const codes = results.flatMap((result) => (result.ok ? [] : [result.code]));
  if (codes.length === 0) return;
  logger.warn('an agent is refused signatures', {
    ...{ nodeName, asked: results.length, refused: codes.length, codes: [...new Set(codes)] },
  });
}

function heldSvids(held: readonly HeldRegistration[]): readonly IssuedSvid[] {
  return held
    .filter(({ svidNotAfter }) => svidNotAfter > 0)
    .map(({ id, svidNotBefore, svidNotAfter }) => ({
      ...{ registrationId: id, notBefore: svidNotBefore, notAfter: svidNotAfter },
    }));
}

function parsedCsr(csr: Uint8Array): { readonly spki: Uint8Array } {
  try {
    return parseCsr(csr);
  } catch (cause) {
    throw new StatusError('InvalidArgument', `csr: ${SignetError.from(cause).message}`, {
      code: 'CsrInvalid',
      cause,
    });
  }
}

/** What an agent is told: the reason of a refusal, and of our own faults only that they are ours. */
function statusOf(thrown: unknown): unknown {
  if (thrown instanceof StatusError) return thrown;
  if (thrown instanceof AttestationError) {
    const status = thrown.code === 'ReviewUnavailable' ? 'Unavailable' : 'PermissionDenied';
    return new StatusError(status, thrown.message, { code: thrown.code, cause: thrown });
  }
  const { code } = SignetError.from(thrown);
  return new StatusError('Unavailable', 'the server cannot sign now; try again', { code, cause: thrown });
}
