/**
 * What Istio does with policies: istiod's own code admits and renders them, and the real Envoy enforces istiod's inbound
 * listener against real (m)TLS connections. docs/development/test-rig.md says what was changed in the listener.
 */
import { startLineProgram } from './line-program.js';
import * as rig from './rig.js';

/** The pod whose sidecar is asked, and the mesh around it. All but the namespace may be left out. */
export interface IstioWorkload {
  readonly namespace: string;
  /** `app` unless given. */
  readonly serviceAccount?: string;
  /** `app: app` unless given. */
  readonly labels?: Readonly<Record<string, string>>;
  /** `cluster.local` unless given. */
  readonly trustDomain?: string;
  readonly trustDomainAliases?: readonly string[];
  /** `istio-system` unless given. */
  readonly rootNamespace?: string;
  /** Ports of its Service; 8080 (http) and 9000 (tcp) unless given. */
  readonly ports?: readonly { readonly port: number; readonly protocol: 'http' | 'http2' | 'grpc' | 'tcp' }[];
  /** Further ports to listen on, which no Service declares. */
  readonly bindPorts?: readonly number[];
  /** MeshConfig, YAML. */
  readonly meshConfig?: string;
  /** The address to listen on; one of loopback of its own unless given. */
  readonly podIp?: string;
  /** Asks this waypoint of the namespace instead of a sidecar: of all else only the mesh matters then. */
  readonly waypoint?: IstioWaypoint;
  /** Also takes objects that admission refuses, as if they had been stored before. */
  readonly keepInvalid?: boolean;
}

/** A waypoint, and what uses it. */
export interface IstioWaypoint {
  /** Of the Gateway. */
  readonly name: string;
  readonly services: readonly {
    readonly namespace: string;
    readonly name: string;
    /** The cluster IP, any. */
    readonly address: string;
    readonly ports: readonly {
      readonly port: number;
      readonly protocol: 'http' | 'http2' | 'grpc' | 'tcp';
    }[];
  }[];
  /** Addresses of pods that use it (`istio.io/waypoint-for: workload` or `all`). */
  readonly addresses?: readonly string[];
}

/** What admission says of one object. */
export interface IstioAdmission {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly accepted: boolean;
  /** Of the CRD: unknown fields, schema, CEL. */
  readonly schemaErrors?: readonly string[];
  /** Of istiod's webhook. */
  readonly errors?: readonly string[];
  readonly warnings?: readonly string[];
}

/** What istiod makes of the accepted objects for one workload. Filters are Envoy's protobuf messages as JSON. */
export interface IstioRendered {
  readonly validation: readonly IstioAdmission[];
  /** The AuthorizationPolicies that apply, as `namespace/name`, by action. */
  readonly selected: Readonly<Partial<Record<'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM', readonly string[]>>>;
  /** Mutual TLS mode, by port. */
  readonly mtls: Readonly<Record<string, string>>;
  readonly jwtFilters: readonly unknown[] | null;
  readonly httpFilters: readonly unknown[] | null;
  readonly tcpFilters: readonly unknown[] | null;
}

/** One request of a client to the workload. */
export interface IstioRequest {
  readonly id?: string;
  /** SPIFFE ID of the client's certificate; plaintext without. */
  readonly source?: string;
  /** Further DNS names in the client's certificate. */
  readonly dns?: readonly string[];
  /** `mtls` with a source and `plaintext` without, unless given; `tls` is TLS without a client certificate. */
  readonly transport?: 'mtls' | 'tls' | 'plaintext';
  /** The port's unless given. */
  readonly protocol?: 'http' | 'tcp';
  /** The first unless given. */
  readonly port?: number;
  /** Any address: the engine has a network of its own. */
  readonly sourceIp?: string;
  /** Through a waypoint: the address of the Service or pod that is meant; `source` and `port` are needed then. */
  readonly address?: string;
  readonly sni?: string;
  readonly method?: string;
  /** Sent byte for byte, query included; `/` unless given. */
  readonly path?: string;
  readonly host?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Claims of a bearer token, signed by the key whose JWKS a policy gets by saying `jwks: __TEST_JWKS__`. */
  readonly jwt?: Readonly<Record<string, unknown>>;
  /** A bearer token sent as it is. */
  readonly jwtRaw?: string;
}

/** Envoy's answer. */
export interface IstioDecision {
  readonly id?: string;
  /** `error`: the question could not be asked; never count it as a denial. */
  readonly decision: 'allow' | 'deny' | 'error';
  /**
   * Who decided: `rbac` (AuthorizationPolicy), `jwt`, `tls` (handshake refused), `connection` (closed: network RBAC, or
   * plaintext on STRICT), `http` (Envoy's own 4xx); `route` or `echo` when allowed; `oracle` for an error.
   */
  readonly by: string;
  readonly status?: number;
  /** Envoy's RESPONSE_CODE_DETAILS; names the policy on a DENY. */
  readonly details?: string;
  /** The URI SAN that Envoy saw. */
  readonly peer?: string;
  readonly chain?: string;
  /** Result of the dry-run engines, e.g. `deny=denied`. */
  readonly shadow?: string;
}

/** An AuthorizationPolicy as istiod hands it to ztunnel (not ztunnel itself). */
export interface IstioAmbientPolicy {
  readonly namespace: string;
  readonly name: string;
  /** istio.security.Authorization as JSON; null if ztunnel gets nothing. */
  readonly authorization: unknown;
  /** The ZtunnelAccepted condition that istiod writes; null if it took the policy whole. */
  readonly status: { readonly Reason: string; readonly Message: string } | null;
}

/** One istiod and one Envoy. Calls are carried out in order. */
export interface Istio {
  /** Renders the objects (those that admission refuses are left out), and has Envoy listen with the result. */
  load(workload: IstioWorkload, yaml: string): Promise<IstioRendered>;
  /** The same without Envoy. */
  render(workload: IstioWorkload, yaml: string): Promise<IstioRendered>;
  /** Asks what was loaded last; an answer for each request, in order. */
  decide(requests: readonly IstioRequest[]): Promise<readonly IstioDecision[]>;
  /** istiod's own conversion of the AuthorizationPolicies to ztunnel's form. */
  ambient(yaml: string): Promise<readonly IstioAmbientPolicy[]>;
  close(): Promise<void>;
}

/** Starts it; builds the parts if need be, so give the hook that calls this `rigTimeout`. */
export async function startIstio(): Promise<Istio> {
  const [program, envoy, crds] = await Promise.all([rig.istioAuthz(), rig.envoy(), rig.crds('istio')]);
  const { ask, close } = startLineProgram(program, [], { ENVOY: envoy, ISTIO_CRDS: crds });
  const rendered = async (op: 'load' | 'render', workload: IstioWorkload, yaml: string) =>
    ((await ask({ op, workload, yaml })) as { readonly rendered: IstioRendered }).rendered;
  return {
    load: (workload, yaml) => rendered('load', workload, yaml),
    render: (workload, yaml) => rendered('render', workload, yaml),
    decide: async (requests) =>
      ((await ask({ op: 'decide', requests })) as { readonly decisions: readonly IstioDecision[] }).decisions,
    ambient: async (yaml) =>
      ((await ask({ op: 'ambient', yaml })) as { readonly policies: readonly IstioAmbientPolicy[] }).policies,
    close,
  };
}
