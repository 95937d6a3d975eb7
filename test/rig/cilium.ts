/**
 * What Cilium does with CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, NetworkPolicy v1 and ClusterNetworkPolicy
 * v1alpha2: its own parsing, policy repository and endpoint policy map. docs/development/test-rig.md says what is not there.
 */
import { startLineProgram } from './line-program.js';
import * as rig from './rig.js';

/** A pod, an address outside the cluster, or one of Cilium's entities. */
export type CiliumPeer =
  | {
      /** `default` unless given. */
      readonly namespace?: string;
      readonly serviceAccount?: string;
      readonly labels?: Readonly<Record<string, string>>;
      /** Beside `kubernetes.io/metadata.name`, which is there always. */
      readonly namespaceLabels?: Readonly<Record<string, string>>;
    }
  | { readonly ip: string }
  | {
      readonly entity:
        'host' | 'remote-node' | 'kube-apiserver' | 'health' | 'ingress' | 'init' | 'unmanaged' | 'world';
    };

/** One connection, and the HTTP request in it. */
export interface CiliumRequest {
  readonly id?: string;
  readonly from: CiliumPeer;
  readonly to: CiliumPeer;
  readonly port: number;
  /** TCP unless given. */
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  /** Of the target. */
  readonly namedPorts?: Readonly<Record<string, number>>;
  /** `path` is with the query. */
  readonly http?: {
    readonly method: string;
    readonly path: string;
    readonly host?: string;
    readonly headers?: Readonly<Record<string, string>>;
  };
}

/** One direction's verdict. */
export interface CiliumSide {
  readonly l4: 'allow' | 'deny';
  /** Goes through the HTTP proxy. */
  readonly redirect?: boolean;
  readonly l7?: 'allow' | 'deny' | 'needs http';
  /** Cilium's own HTTP rules, as JSON. */
  readonly httpRules?: unknown;
  /** Names of the policies that decided. */
  readonly rules?: readonly string[];
  /** Mutual authentication that the connection must do. */
  readonly auth?: readonly string[];
}

export interface CiliumDecision {
  readonly id?: string;
  /** `l7`: depends on HTTP, which was not given. `error`: the question could not be asked. */
  readonly decision: 'allow' | 'deny' | 'l7' | 'error';
  readonly egress: CiliumSide;
  readonly ingress: CiliumSide;
  readonly error?: string;
}

/** The fate of one object. */
export interface CiliumObject {
  readonly kind: string;
  /** `namespace/name`, or `name` for a cluster-wide one. */
  readonly name: string;
  readonly accepted: boolean;
  /** How many entries it made in the repository. */
  readonly entries: number;
  readonly error?: string;
}

export interface CiliumAnswer {
  readonly objects: readonly CiliumObject[];
  readonly decisions: readonly CiliumDecision[];
}

export interface Cilium {
  /** Loads the objects into a new repository (those that Cilium refuses are left out), and asks it. */
  decide(yaml: string, requests: readonly CiliumRequest[]): Promise<CiliumAnswer>;
  close(): Promise<void>;
}

/** Starts it; builds the part if need be, so give the hook that calls this `rigTimeout`. */
export async function startCilium(): Promise<Cilium> {
  const { ask, close } = startLineProgram(await rig.ciliumDecide(), []);
  return { decide: async (yaml, requests) => (await ask({ yaml, requests })) as CiliumAnswer, close };
}
