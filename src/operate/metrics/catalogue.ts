import type { MetricDefinition } from './definition.js';

const SERVER = ['server'] as const;
const AGENT = ['agent'] as const;
const BOTH = ['server', 'agent'] as const;

/** From what a signature takes to what a stalled API server takes. Seconds. */
const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const;

/**
 * All metrics of our own. docs/reference/metrics.md is generated from this list, and nothing else can be made: a metric
 * without a line here does not exist. No label holds what anybody outside may choose at will, so the number of series is
 * bounded by the code, the kinds of resources, and the authorities there are.
 */
export const METRICS = {
  buildInfo: {
    type: 'gauge',
    name: 'signet_build_info',
    help: 'Which version runs; always 1.',
    labels: { version: 'of Signet', program: '`server` or `agent`' },
    of: BOTH,
  },
  ready: {
    type: 'gauge',
    name: 'signet_ready',
    help: 'Whether /readyz says yes (1) or no (0), by check.',
    labels: { check: 'as `/readyz?verbose` names it' },
    of: BOTH,
  },
  leading: {
    type: 'gauge',
    name: 'signet_leader',
    help: 'Whether this replica leads (1) or not (0). The sum over all replicas is 1.',
    labels: {},
    of: SERVER,
  },
  reconciles: {
    type: 'counter',
    name: 'signet_controller_reconciles_total',
    help: 'Reconciles that ended.',
    labels: {
      controller: 'its name',
      outcome:
        '`success`, `requeue` (looks again later), `error` (is tried again) or `terminal_error` (only a change helps)',
    },
    of: SERVER,
  },
  reconcileSeconds: {
    type: 'histogram',
    name: 'signet_controller_reconcile_duration_seconds',
    help: 'How long reconciles took.',
    labels: { controller: 'its name' },
    of: SERVER,
    buckets: SECONDS,
  },
  injections: {
    type: 'counter',
    name: 'signet_webhook_pods_total',
    help: 'Pods that the API server asked the injecting webhook about.',
    labels: {
      outcome:
        '`patched`, `unchanged`, `refused` (by its annotations) or `invalid` (no question of an API server)',
    },
    of: SERVER,
  },
  queueLength: {
    type: 'gauge',
    name: 'signet_controller_queue_length',
    help: 'Keys that wait for a worker.',
    labels: { controller: 'its name' },
    of: SERVER,
  },
  objects: {
    type: 'gauge',
    name: 'signet_store_objects',
    help: 'Objects that this replica mirrors.',
    labels: { kind: 'of the objects' },
    of: SERVER,
  },
  lists: {
    type: 'counter',
    name: 'signet_reflector_lists_total',
    help: 'Complete lists that came: one at the start, and one whenever what was missed is too old to be sent.',
    labels: { kind: 'of the objects' },
    of: SERVER,
  },
  watches: {
    type: 'counter',
    name: 'signet_reflector_watches_total',
    help: 'Watches that began. The API server ends each after some minutes.',
    labels: { kind: 'of the objects' },
    of: SERVER,
  },
  events: {
    type: 'counter',
    name: 'signet_reflector_events_total',
    help: 'Events of watches.',
    labels: { kind: 'of the objects', type: '`ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`' },
    of: SERVER,
  },
  reflectorFailures: {
    type: 'counter',
    name: 'signet_reflector_failures_total',
    help: 'Lists and watches that failed; what is known stays in force, and it is tried again.',
    labels: { kind: 'of the objects', code: 'an error code' },
    of: SERVER,
  },
  apiRequests: {
    type: 'counter',
    name: 'signet_api_requests_total',
    help: 'Requests to the API server.',
    labels: {
      verb: 'the HTTP method, or `WATCH`',
      code: '`2xx`, another HTTP status, or the error code of why there was no answer',
    },
    of: SERVER,
  },
  apiSeconds: {
    type: 'histogram',
    name: 'signet_api_request_duration_seconds',
    help: 'How long requests to the API server took; a watch, until it began.',
    labels: { verb: 'the HTTP method, or `WATCH`' },
    of: SERVER,
    buckets: SECONDS,
  },
  clockSkew: {
    type: 'gauge',
    name: 'signet_clock_skew_seconds',
    help: "By how much this server's clock is ahead of the API server's, to about a second; at 240 either way nothing is signed.",
    labels: {},
    of: SERVER,
  },
  authorityNotAfter: {
    type: 'gauge',
    name: 'signet_ca_authority_not_after_timestamp_seconds',
    help: 'When each authority ends, as seconds since the epoch.',
    labels: {
      kind: '`x509` or `jwt`',
      id: 'of the authority',
      slot: '`prepared`, `active` or `old`',
    },
    of: SERVER,
  },
  rotationFailing: {
    type: 'gauge',
    name: 'signet_ca_rotation_failing',
    help: 'Whether the last attempt to rotate failed (1); the log and the TrustDomain say why.',
    labels: {},
    of: SERVER,
  },
  stateAge: {
    type: 'gauge',
    name: 'signet_ca_state_age_seconds',
    help: 'For how long the authorities in the Secret have not been seen. At 30 this replica stops signing.',
    labels: {},
    of: SERVER,
  },
  bundleSequence: {
    type: 'gauge',
    name: 'signet_trust_bundle_sequence',
    help: 'Sequence number of the own trust bundle: the same on all replicas, but for moments.',
    labels: {},
    of: SERVER,
  },
  signatures: {
    type: 'counter',
    name: 'signet_signatures_total',
    help: 'What agents asked to have signed.',
    labels: { kind: '`x509` or `jwt`', result: '`success`, or the error code of the refusal' },
    of: SERVER,
  },
  signingSeconds: {
    type: 'histogram',
    name: 'signet_signing_batch_duration_seconds',
    help: 'How long batches of agents took to sign, whatever their size.',
    labels: { kind: '`x509` or `jwt`' },
    of: SERVER,
    buckets: SECONDS,
  },
  attestations: {
    type: 'counter',
    name: 'signet_agent_attestations_total',
    help: 'Agents that proved themselves by a token, or could not.',
    labels: { result: '`success`, or an error code' },
    of: SERVER,
  },
  agents: {
    type: 'gauge',
    name: 'signet_agents_connected',
    help: 'Nodes whose agent follows this replica.',
    labels: {},
    of: SERVER,
  },
  policyReaders: {
    type: 'gauge',
    name: 'signet_policy_streams',
    help: 'Streams of policies that agents follow at this replica.',
    labels: {},
    of: SERVER,
  },
  policyUpdates: {
    type: 'counter',
    name: 'signet_policy_updates_sent_total',
    help: 'Updates of policies, and of what they ask about, that were sent to agents.',
    labels: { kind: '`snapshot`, or `change` (also what an agent missed that has come again)' },
    of: SERVER,
  },
  policyItems: {
    type: 'counter',
    name: 'signet_policy_items_sent_total',
    help: 'Items in these updates.',
    labels: {},
    of: SERVER,
  },
  policyCharacters: {
    type: 'counter',
    name: 'signet_policy_json_characters_sent_total',
    help: 'Characters of JSON in these updates.',
    labels: {},
    of: SERVER,
  },
  connections: {
    type: 'gauge',
    name: 'signet_agent_connections',
    help: 'Open connections of agents, those of strangers that have yet to prove themselves included.',
    labels: {},
    of: SERVER,
  },
  registrations: {
    type: 'gauge',
    name: 'signet_registrations',
    help: 'Registrations: pods (or processes) times the identities that they have. On an agent, those of its node.',
    labels: {},
    of: BOTH,
  },
  agentConnected: {
    type: 'gauge',
    name: 'signet_agent_connected',
    help: 'Whether the streams from the server are open (1). What the agent holds is served in any case.',
    labels: {},
    of: AGENT,
  },
  agentClockSkew: {
    type: 'gauge',
    name: 'signet_agent_clock_skew_seconds',
    help: "By how much this node's clock was ahead of the server's when the last SVID came, to about a second.",
    labels: {},
    of: AGENT,
  },
  policiesHeld: {
    type: 'gauge',
    name: 'signet_agent_policy_items',
    help: 'Policies, and what they ask about, that the agent decides by.',
    labels: {},
    of: AGENT,
  },
  policiesStaleSince: {
    type: 'gauge',
    name: 'signet_agent_policies_stale_since_timestamp_seconds',
    help: 'Since when the agent decides by policies that may have changed meanwhile, as seconds since the epoch; not shown while the server is followed.',
    labels: {},
    of: AGENT,
  },
  svids: {
    type: 'gauge',
    name: 'signet_agent_svids',
    help: 'SVIDs in the cache.',
    labels: { kind: '`x509` or `jwt`' },
    of: AGENT,
  },
  svidsQueued: {
    type: 'gauge',
    name: 'signet_agent_svids_queued',
    help: 'Registrations whose X.509-SVID is yet to be signed.',
    labels: {},
    of: AGENT,
  },
  svidsFailing: {
    type: 'gauge',
    name: 'signet_agent_svids_failing',
    help: 'Registrations whose last signing was refused.',
    labels: {},
    of: AGENT,
  },
  nextExpiry: {
    type: 'gauge',
    name: 'signet_agent_svid_next_expiry_timestamp_seconds',
    help: 'When the first X.509-SVID in the cache ends, as seconds since the epoch; not shown while there is none.',
    labels: {},
    of: AGENT,
  },
  streams: {
    type: 'gauge',
    name: 'signet_agent_workload_streams',
    help: 'Open streams of workloads (Workload API, SDS).',
    labels: {},
    of: AGENT,
  },
  workloadConnections: {
    type: 'gauge',
    name: 'signet_agent_workload_connections',
    help: 'Open connections of workloads to the sockets of the Workload API.',
    labels: {},
    of: AGENT,
  },
  volumes: {
    type: 'gauge',
    name: 'signet_agent_volumes',
    help: 'Volumes of pods that are served.',
    labels: { state: '`served`, or `lacking` while its files are not what they should be' },
    of: AGENT,
  },
  volumesOpened: {
    type: 'counter',
    name: 'signet_agent_volumes_opened_total',
    help: 'Volumes whose sockets and files were opened, or could not be.',
    labels: {
      occasion: '`publish` for a pod that starts, `restore` for one that another agent has served',
      result: '`success`, or an error code',
    },
    of: AGENT,
  },
} as const satisfies Record<string, MetricDefinition>;

/** A metric, by the name that code calls it. */
type MetricId = keyof typeof METRICS;

type OfType<T extends MetricDefinition['type']> = {
  [K in MetricId]: (typeof METRICS)[K]['type'] extends T ? K : never;
}[MetricId];

export type CounterId = OfType<'counter'>;
export type GaugeId = OfType<'gauge'>;
export type HistogramId = OfType<'histogram'>;

/** A gauge without labels. */
export type PlainGaugeId = {
  [K in GaugeId]: keyof (typeof METRICS)[K]['labels'] extends never ? K : never;
}[GaugeId];

/** A value for each label of a metric. */
export type LabelsOf<K extends MetricId> = Readonly<Record<keyof (typeof METRICS)[K]['labels'], string>>;
