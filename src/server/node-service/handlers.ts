import type { CertificateAuthority } from '../../identity/ca/certificate-authority.js';
import { parseCsr } from '../../identity/pki/csr.js';
import { formatBundleDocument } from '../../identity/spiffe/bundle-document.js';
import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { HandlersOf } from '../../rpc/definition.js';
import type { AgentSvid } from '../../rpc/gen/signet/node/v1/node.js';
import { bundleMessage } from '../../rpc/node/bundle-message.js';
import { processFactsFrom } from '../../rpc/node/registration-message.js';
import { asBuffer, jwtResultMessage, x509ResultMessage } from '../../rpc/node/result-message.js';
import type { BundleUpdate, NodeApi } from '../../rpc/node-api.js';
import { StatusError, type CallContext } from '../../rpc/service.js';
import type { nodeService } from '../../rpc/services.js';
import { agentIdOf, nodeOfAgent } from './agent-id.js';
import { AttestationError, type AttestedAgent } from './attestation.js';
import { CallLimits, defaultAgentCallLimits, type AgentCallLimits } from './call-limits.js';
import { differences } from './differences.js';

/** What the node service is made of. */
export interface NodeServiceOptions {
  readonly ca: Pick<CertificateAuthority, 'signX509' | 'bundle' | 'trustDomain'>;
  /** Rejects with AttestationError. */
  readonly attest: (token: string) => Promise<AttestedAgent>;
  /** Whether an agent's pod is on this node now: an agent without one is renewed no more. */
  readonly hasAgent: (nodeName: string) => boolean;
  /** What a node may see and have signed. */
  readonly nodeApi: (nodeName: string) => NodeApi;
  readonly agentTtlSeconds: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits?: Partial<AgentCallLimits>;
}

export type NodeServiceHandlers = HandlersOf<typeof nodeService>;

/** The handlers of `signet.node.v1.Node`. Which node a call is about, the caller's verified SPIFFE ID says alone. */
export function nodeServiceHandlers(options: NodeServiceOptions): NodeServiceHandlers {
  const { ca, clock } = options;
  const logger = options.logger.child({ component: 'node-service' });
  const limits = new CallLimits({ ...defaultAgentCallLimits, ...options.limits }, clock);
  const encoded = new WeakMap<BundleUpdate, ReturnType<typeof bundleMessage>>();

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
    if (nodeName !== undefined) return nodeName;
    throw new StatusError('PermissionDenied', `${peer.spiffeId.uri} is not the SPIFFE ID of an agent`, {
      code: 'NotAnAgent',
    });
  };

  const issue = async (nodeName: string, csr: Uint8Array): Promise<AgentSvid> => {
    const spiffeId = agentIdOf(ca.trustDomain, nodeName);
    if (spiffeId === undefined)
      throw new StatusError('PermissionDenied', `"${nodeName}" is no name of a node`, {
        code: 'NodeUnproven',
      });
    const { spki } = parsedCsr(csr);
    const signed = await ca.signX509({ spki, spiffeId, dnsNames: [], ttlSeconds: options.agentTtlSeconds });
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
    async attestAgent({ token, csr }, { peer }) {
      const from = { remoteAddress: peer.remoteAddress };
      try {
        // Before the token is spent on it.
        parsedCsr(csr);
        const { nodeName, podUid } = await options.attest(token);
        const svid = await issue(nodeName, csr);
        logger.info('agent attested', { ...from, nodeName, podUid });
        return svid;
      } catch (thrown) {
        const { code, message } = SignetError.from(thrown);
        logger.warn('agent refused', { ...from, code, reason: message });
        throw statusOf(thrown);
      }
    },

    async renew({ csr }, context) {
      const nodeName = nodeOf(context);
      if (!options.hasAgent(nodeName)) {
        throw new StatusError('PermissionDenied', `no pod of the agent is on node ${nodeName} (any more)`, {
          code: 'AgentGone',
        });
      }
      return issue(nodeName, csr).catch((thrown: unknown) => {
        throw statusOf(thrown);
      });
    },

    async sync({ held }, context, sink) {
      const nodeName = nodeOf(context);
      const end = limits.stream(nodeName, 'sync');
      try {
        const updates = options.nodeApi(nodeName).sync(context.signal);
        for await (const part of differences(held, updates)) await sink.write(part);
      } finally {
        end();
      }
    },

    async watchBundles(_, context, sink) {
      const nodeName = nodeOf(context);
      const end = limits.stream(nodeName, 'bundles');
      try {
        for await (const update of options.nodeApi(nodeName).bundles(context.signal)) {
          // The same for all agents, so written once.
          const message = encoded.get(update) ?? bundleMessage(update);
          encoded.set(update, message);
          await sink.write(message);
        }
      } finally {
        end();
      }
    },

    async signX509({ requests }, context) {
      const nodeName = nodeOf(context);
      return limits.signing(nodeName, requests.length, async () => {
        const results = await options.nodeApi(nodeName).signX509(requests, context.signal);
        return { results: results.map(x509ResultMessage) };
      });
    },

    async signJwt({ requests }, context) {
      const nodeName = nodeOf(context);
      return limits.signing(nodeName, requests.length, async () => {
        const results = await options.nodeApi(nodeName).signJwt(requests, context.signal);
        return { results: results.map(jwtResultMessage) };
      });
    },

    async explain({ subject }, context) {
      const api = options.nodeApi(nodeOf(context));
      if (subject === undefined)
        throw new StatusError('InvalidArgument', 'the request names nobody; set pod_uid or process');
      const about =
        subject.$case === 'podUid'
          ? ({ kind: 'pod', uid: subject.value } as const)
          : ({ kind: 'process', facts: processFactsFrom(subject.value) } as const);
      return { text: (await api.explain?.(about, context.signal)) ?? '' };
    },
  };
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
