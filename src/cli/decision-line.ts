/** A decision as an agent has logged it. */
export interface LoggedDecision {
  /** RFC 3339. */
  readonly time: string;
  readonly node: string;
  /** `refused`: no policy was asked, since the question itself was not one, or since who asks has no identity. */
  readonly outcome: 'denied' | 'audited' | 'refused';
  readonly decision?: string;
  readonly source?: string;
  readonly sourceIp?: string;
  readonly target?: string;
  readonly port?: string;
  /** Method and path, or action and resource. */
  readonly operation?: string;
  readonly reason?: string;
  /** The policy in Audit mode that objects, and why. */
  readonly audit?: string;
  /** The request, as its caller or Envoy calls it. */
  readonly requestId?: string;
  /** Why a token that came is not valid. */
  readonly tokenProblem?: string;
  /** Decisions that were left out of the log before this one: it is bounded. */
  readonly omitted?: number;
}

/** As src/agent/authorization/decision-log.ts and src/agent/refusal-log.ts write them. */
const IDENTITY = 'identity refused';
const OUTCOMES: ReadonlyMap<string, LoggedDecision['outcome']> = new Map([
  ['access denied', 'denied'],
  ['access refused', 'refused'],
  [IDENTITY, 'refused'],
  ['access allowed, against a policy in Audit mode', 'audited'],
]);

/** The decision that a line of an agent's log tells of; undefined for every other line. */
export function readDecision(line: string, node: string): LoggedDecision | undefined {
  const fields = parsed(line);
  const outcome = OUTCOMES.get(text(fields, 'message') ?? '');
  const time = text(fields, 'timestamp');
  if (outcome === undefined || time === undefined) return undefined;
  const operation = [
    text(fields, 'method') ?? text(fields, 'action'),
    text(fields, 'path') ?? text(fields, 'resource'),
  ].filter((one) => one !== undefined);
  if (text(fields, 'message') === IDENTITY) operation.push('identity');
  const omitted = fields?.['omitted'];
  const optional = Object.fromEntries(
    (
      [
        'decision',
        'source',
        'sourceIp',
        'target',
        'port',
        'reason',
        'audit',
        'tokenProblem',
        'requestId',
      ] as const
    ).flatMap((name) => {
      const value = text(fields, name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  return {
    ...{ time, node, outcome },
    ...optional,
    ...(operation.length === 0 ? {} : { operation: operation.join(' ') }),
    ...(typeof omitted === 'number' ? { omitted } : {}),
  };
}

type Fields = Readonly<Record<string, unknown>> | undefined;

function parsed(line: string): Fields {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as Fields;
  } catch {
    return undefined;
  }
}

function text(fields: Fields, name: string): string | undefined {
  const value = fields?.[name];
  return typeof value === 'string' ? value : undefined;
}
