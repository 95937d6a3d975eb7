import { trustedRoots } from '../../src/identity/ca/authority-set.js';
import { decodeJournal } from '../../src/identity/ca/journal-codec.js';
import type { PolicyStore } from '../../src/agent/access/policy-store.js';
import { createAgent, type Agent } from '../../src/agent/agent.js';
import { connectToServer } from '../../src/agent/remote/server-connection.js';
import { formatBundleDocument } from '../../src/identity/spiffe/bundle-document.js';
import { systemClock } from '../../src/lib/clock.js';
import { silentLogger } from '../../src/lib/logger.js';
import { systemRandom } from '../../src/lib/random.js';
import { createRemoteNodeApi } from '../../src/rpc/node/remote-node-api.js';
import type { NodeApi } from '../../src/rpc/node-api.js';
import type { ControlPlane } from '../rig/control-plane.js';
import { create, SYSTEM, trustDomainStatusOf } from './cluster-server.js';

export const AGENT = 'signet-agent';
export const AUDIENCE = 'signet-server';

/** An agent in this process, of a node that is only a name, against a real server. */
export interface ClusterAgent {
  readonly agent: Agent;
  readonly api: NodeApi;
  /** Codes of sign requests that failed as a whole, not refusals of the server. */
  readonly failures: string[];
  /** Registration IDs whose SVID is there. */
  ids(): readonly string[];
  stop(): Promise<void>;
}

/** A pod that is bound to a node from its beginning. */
export function boundPod(name: string, nodeName: string, serviceAccountName = 'default'): object {
  return {
    metadata: { name, labels: { app: name.split('-')[0] ?? name } },
    spec: {
      ...{ nodeName, serviceAccountName, automountServiceAccountToken: false },
      containers: [{ name: 'main', image: 'registry.example.org/app:1' }],
    },
  };
}

/** A namespace with a service account `default`, and an identity for its pods labelled `app: web`. */
export async function prepareWorkloads(plane: ControlPlane, namespace: string): Promise<void> {
  await create(plane, '/api/v1/namespaces', { metadata: { name: namespace } });
  await create(plane, `/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name: 'default' } });
  await create(plane, `/apis/signet.dev/v1alpha1/namespaces/${namespace}/workloadidentities`, {
    ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity', metadata: { name: 'web' } },
    spec: { podSelector: { matchLabels: { app: 'web' } } },
  });
}

/** Makes a pod; gives its uid. */
export async function makePod(plane: ControlPlane, namespace: string, pod: object): Promise<string> {
  const { status, body } = await plane.request('POST', `/api/v1/namespaces/${namespace}/pods`, pod);
  if (status !== 201) throw new Error(`no pod: ${status} ${JSON.stringify(body)}`);
  return (body as { readonly metadata: { readonly uid: string } }).metadata.uid;
}

/** Deletes a pod at once, as when its node is gone. */
export async function deletePod(plane: ControlPlane, namespace: string, name: string): Promise<void> {
  await plane.request('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}?gracePeriodSeconds=0`);
}

/** The pod of a node's agent, and a token of it. */
export async function agentToken(plane: ControlPlane, nodeName: string): Promise<string> {
  await create(plane, `/api/v1/namespaces/${SYSTEM}/serviceaccounts`, { metadata: { name: AGENT } });
  const name = `agent-${nodeName}`;
  await create(plane, `/api/v1/namespaces/${SYSTEM}/pods`, boundPod(name, nodeName, AGENT));
  return plane.serviceAccountToken({
    namespace: SYSTEM,
    name: AGENT,
    audience: AUDIENCE,
    boundPod: { name },
  });
}

/** The bundle as the server's own Secret has it: published or not, it is what an agent would be given. */
export async function bundleOf(plane: ControlPlane, trustDomain: string): Promise<string> {
  const { body } = await plane.request('GET', `/api/v1/namespaces/${SYSTEM}/secrets/signet-ca`);
  const { data } = body as { readonly data: Readonly<Record<string, string>> };
  const { set } = decodeJournal(Buffer.from(data['journal.json'] ?? '', 'base64'));
  return formatBundleDocument({
    ...{ trustDomain, x509Authorities: trustedRoots(set), jwtAuthorities: [] },
    sequence: (await trustDomainStatusOf(plane)).bundleSequence ?? 1,
  });
}

/** Attests an agent for the node at this port and has it follow the server. */
export async function startClusterAgent(
  plane: ControlPlane,
  options: {
    readonly nodeName: string;
    readonly port: number;
    readonly trustDomain: string;
    /** Told of each X.509-SVID that came. */
    readonly signed?: (registrationId: string, chain: readonly Uint8Array[]) => void;
    /** Takes what decisions are made from; it does not follow that unless given. */
    readonly policies?: PolicyStore;
    /** Whether it is of a version that does not acknowledge revocations. */
    readonly isOld?: boolean;
  },
): Promise<ClusterAgent> {
  const { nodeName, port, trustDomain, signed, policies, isOld = false } = options;
  const token = await agentToken(plane, nodeName);
  const stop = new AbortController();
  const parts = { clock: systemClock, random: systemRandom, logger: silentLogger };
  const connection = await connectToServer(
    {
      ...{ trustDomain, host: '127.0.0.1', port, keyType: 'ec-p256', ...parts },
      readToken: () => Promise.resolve(token),
      readBundle: () => bundleOf(plane, trustDomain),
    },
    stop.signal,
  );
  const failures: string[] = [];
  const held = new Set<string>();
  const { acknowledge, ...remote } = createRemoteNodeApi(
    () => connection.rpc,
    trustDomain,
    (id) => agent.svidOf(id),
  );
  const api: NodeApi = {
    ...remote,
    ...(isOld || acknowledge === undefined ? {} : { acknowledge }),
    async *sync(signal) {
      for await (const update of remote.sync(signal)) {
        if (update.snapshot) held.clear();
        for (const id of update.removed) held.delete(id);
        for (const { id } of update.upserts) held.add(id);
        yield update;
      }
    },
    async *bundles(signal) {
      for await (const update of remote.bundles(signal)) {
        connection.learn(update.own, update.taintedX509);
        yield update;
      }
    },
    async signX509(requests, signal) {
      try {
        const results = await remote.signX509(requests, signal);
        results.forEach((result, at) => {
          const id = requests[at]?.registrationId;
          if (result.ok && id !== undefined) signed?.(id, result.chain);
        });
        return results;
      } catch (error) {
        failures.push(String(error));
        throw error;
      }
    },
  };
  const agent: Agent = createAgent({
    ...{ api, nodeName, ...parts },
    ...(policies === undefined ? {} : { policies }),
  });
  const stopped = agent.run(stop.signal);
  return {
    ...{ agent, api, failures },
    ids: () => [...held].filter((id) => agent.svidOf(id) !== undefined).sort(),
    async stop() {
      stop.abort();
      await stopped.catch(() => undefined);
      connection.close();
    },
  };
}
