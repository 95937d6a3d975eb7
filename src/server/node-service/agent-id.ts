import { spiffeId, type SpiffeId } from '../../identity/spiffe/id.js';

const PREFIX = '/signet/agent/';
/** The path of the server's own SPIFFE ID. */
export const SERVER_PATH = '/signet/server';
/** RFC 1123 subdomain, as Kubernetes names nodes. */
const NODE_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const LONGEST_NODE_NAME = 253;

/** The SPIFFE ID of the agent of a node; undefined for what cannot be a node's name. */
export function agentIdOf(trustDomain: string, nodeName: string): SpiffeId | undefined {
  if (nodeName.length > LONGEST_NODE_NAME || !NODE_NAME.test(nodeName)) return undefined;
  return spiffeId(trustDomain, `${PREFIX}${nodeName}`);
}

/** The node whose agent has this SPIFFE ID; undefined when it is no agent of this trust domain. */
export function nodeOfAgent(id: SpiffeId, trustDomain: string): string | undefined {
  if (id.trustDomain !== trustDomain || !id.path.startsWith(PREFIX)) return undefined;
  const nodeName = id.path.slice(PREFIX.length);
  return agentIdOf(trustDomain, nodeName)?.uri === id.uri ? nodeName : undefined;
}
