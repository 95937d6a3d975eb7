import { REWRITE_PROBES_ANNOTATION } from './annotations.js';
import type { Container, Fields, NewPod, ProbeKind } from './pod.js';
import { shown, type Problem } from './problems.js';
import { probePath, type ProbeCheck, type ProbeQuestion } from './proxy-probe-checks.js';
import { PROXY_HEALTH_PORT, type InboundPort, type ProxySettings } from './proxy-settings.js';

/** What is made of the probes of proxied ports. */
export interface ProbePlan {
  /** The probes as they are to be, by their paths in the pod. */
  readonly rewritten: readonly { readonly path: string; readonly value: Fields }[];
  readonly checks: readonly ProbeCheck[];
  readonly problems: readonly Problem[];
  readonly warnings: readonly string[];
}

const HANDLERS = ['httpGet', 'tcpSocket', 'grpc'] as const;
/** Envoy has one cluster for each. */
const MOST_CHECKS = 64;

/**
 * Has the kubelet ask the proxy instead of ports that are behind it: it has no SVID, and callers without one get no further.
 * Probes of other ports, of other hosts and `exec` probes stay as they are.
 */
export function planProbes(pod: NewPod, proxy: ProxySettings): ProbePlan {
  const plan: {
    [P in keyof ProbePlan]: ProbePlan[P][number][];
  } = { rewritten: [], checks: [], problems: [], warnings: [] };
  for (const list of ['initContainers', 'containers'] as const)
    for (const [index, container] of pod[list].entries()) {
      const at = `${list}/${index}`;
      for (const [hook, call] of container.hooks)
        if (proxiedPort(call, container, proxy) !== undefined)
          plan.warnings.push(
            `spec.${list}[${index}].lifecycle.${hook}.httpGet: asks at a port behind the proxy, where the kubelet gets no further; use exec`,
          );
      if (!proxy.rewriteProbes) continue;
      for (const [kind, probe] of container.probes) {
        const check = readProbe(kind, probe, container, proxy);
        if (check === undefined) continue;
        if (typeof check === 'string')
          plan.problems.push({ field: `spec.${list}[${index}].${kind}`, message: check });
        else {
          plan.checks.push(check);
          plan.rewritten.push({ path: `/spec/${at}/${kind}`, value: rewrite(probe, check) });
        }
      }
    }
  if (plan.checks.length > MOST_CHECKS)
    plan.problems.push({
      field: 'spec.containers',
      message: `have ${plan.checks.length} probes of ports behind the proxy, and ${MOST_CHECKS} can be rewritten; say ${REWRITE_PROBES_ANNOTATION}: "false" and use exec`,
    });
  return plan;
}

/** All that the probe says, but for what it asks. */
function rewrite(probe: Fields, check: ProbeCheck): Fields {
  const rest = Object.entries(probe).filter(([name]) => !HANDLERS.some((one) => one === name));
  return {
    ...Object.fromEntries(rest),
    httpGet: { path: probePath(check), port: PROXY_HEALTH_PORT, scheme: 'HTTP' },
  };
}

/** The probe as a check; undefined where it asks nobody behind the proxy; a text where it cannot be asked. */
function readProbe(
  kind: ProbeKind,
  probe: Fields,
  container: Container,
  proxy: ProxySettings,
): ProbeCheck | string | undefined {
  const handler = HANDLERS.find((one) => isObject(probe[one]));
  const action = handler === undefined ? undefined : probe[handler];
  if (handler === undefined || !isObject(action)) return undefined;
  const inbound = proxiedPort(action, container, proxy);
  if (inbound === undefined) return undefined;
  const question = questionOf(handler, action, inbound.program);
  if (typeof question === 'string') return question;
  const period = seconds(probe['periodSeconds'], 10);
  return {
    ...{ container: container.name, probe: kind, port: inbound.program, question },
    // Twice in a period, so that an answer is never older than half of one.
    interval: Math.max(1, Math.floor(period / 2)),
    timeout: seconds(probe['timeoutSeconds'], 1),
  };
}

/** The port behind the proxy that something asks at. */
function proxiedPort(
  action: Fields,
  container: Container,
  { inbound }: ProxySettings,
): InboundPort | undefined {
  // Whoever names a host does not mean the pod.
  if (text(action['host']) !== '') return undefined;
  const { port } = action;
  const number = typeof port === 'string' ? (container.ports.get(port) ?? Number(port)) : port;
  return inbound.find(({ program }) => program === number) ?? inbound.find(({ listen }) => listen === number);
}

function questionOf(
  handler: (typeof HANDLERS)[number],
  action: Fields,
  port: number,
): ProbeQuestion | string {
  switch (handler) {
    case 'tcpSocket':
      return { kind: 'tcp' };
    case 'grpc': {
      const service = text(action['service']);
      return isPlain(service)
        ? { kind: 'grpc', service }
        : `has the service ${shown(service)}; only ASCII can be asked for`;
    }
    case 'httpGet':
      return httpQuestion(action, port);
  }
}

function httpQuestion(action: Fields, port: number): ProbeQuestion | string {
  const headers = list(action['httpHeaders']).map(
    (header) => [text(header['name']), text(header['value'])] as const,
  );
  const bad = headers.find(([name, value]) => !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) || !isPlain(value));
  if (bad !== undefined) return `has the header ${shown(bad[0])} that no request can have; use ASCII alone`;
  const isHost = ([name]: readonly [string, string]): boolean => name.toLowerCase() === 'host';
  const given = (name: string): boolean => headers.some(([one]) => one.toLowerCase() === name);
  const host = headers.findLast(isHost)?.[1] ?? '';
  return {
    ...{ kind: 'http', tls: action['scheme'] === 'HTTPS', path: requestPath(text(action['path'])) },
    host: host === '' ? `127.0.0.1:${port}` : host,
    headers: [
      // Programs know the kubelet by it.
      ...(given('user-agent') ? [] : [['User-Agent', 'kube-probe/signet'] as const]),
      ...(given('accept') ? [] : [['Accept', '*/*'] as const]),
      ...headers.filter((header) => !isHost(header)),
    ],
  };
}

/** As the kubelet makes one of whatever is written: no scheme and host, no fragment, and only what a request may hold. */
function requestPath(path: string): string {
  const local = path.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').replace(/#.*$/s, '');
  const encoded = [...Buffer.from(local)]
    .map((byte) =>
      byte > 0x20 && byte < 0x7f
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
    )
    .join('');
  return encoded.startsWith('/') ? encoded : `/${encoded}`;
}

/** What can stand in a header, and in any configuration as it is. */
function isPlain(value: string): boolean {
  return /^[ -~]*$/.test(value);
}

function seconds(value: unknown, otherwise: number): number {
  return typeof value === 'number' && value >= 1 ? value : otherwise;
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
