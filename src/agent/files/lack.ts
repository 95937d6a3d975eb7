import type { SubjectView } from '../views.js';
import type { Chosen, Selection } from './selection.js';
import type { TokenLook } from './tokens.js';

/** What keeps a volume from being whole. */
export interface Lack {
  /** Not registered at all: it may be on its way, and only the server knows. */
  readonly absent: boolean;
  /** Waiting will not help. */
  readonly final: boolean;
  readonly code: string;
  /** For people: what is wrong, and how to mend it. */
  readonly message: string;
}

/** The first thing that a whole volume needs and has not. */
export function findLack(
  view: SubjectView,
  { chosen, absent }: Selection,
  looks: ReadonlyMap<Chosen, TokenLook>,
  needsSvid: boolean,
): Lack | undefined {
  const [first] = absent;
  if (first !== undefined) {
    const hints = view.registrations.map(({ hint }) => hint).filter((hint) => hint !== '');
    return {
      absent: true,
      final: false,
      code: 'HintNotFound',
      message: `the volume asks for ${first}, which the pod has not: ${
        hints.length === 0 ? 'none of its identities has a hint' : `it has ${hints.slice(0, 16).join(', ')}`
      }; correct the volume's attributes, or set the hint of an identity`,
    };
  }
  if (view.ownBundle === undefined)
    return waiting('NotSynced', 'the agent has not heard from its server yet; try again');
  for (const one of chosen) {
    if (!one.required) continue;
    const lack = (needsSvid ? svidLack(view, one) : undefined) ?? tokenLack(one, looks.get(one));
    if (lack !== undefined) return lack;
  }
  return undefined;
}

function svidLack(view: SubjectView, { registration, identity }: Chosen): Lack | undefined {
  if (identity !== undefined) return undefined;
  const failure = view.failures.find((one) => one.registration === registration)?.failure;
  const { uri } = registration.spiffeId;
  if (failure === undefined) return waiting('NotSigned', `the SVID of ${uri} is not signed yet; try again`);
  return {
    absent: false,
    final: !failure.retryable,
    code: failure.code,
    message: `no SVID is signed for ${uri}: ${failure.message}`,
  };
}

function tokenLack({ registration }: Chosen, look: TokenLook | undefined): Lack | undefined {
  const missing = look?.missing.find(({ refusal }) => refusal?.retryable === false) ?? look?.missing[0];
  if (missing === undefined) return undefined;
  const what = `the JWT-SVID of ${registration.spiffeId.uri} for audience ${JSON.stringify(missing.audience)}`;
  const { refusal } = missing;
  if (refusal === undefined) return waiting('NotSigned', `${what} is not signed yet; try again`);
  return {
    absent: false,
    final: !refusal.retryable,
    code: refusal.code,
    message: `${what} is not signed: ${refusal.message}`,
  };
}

function waiting(code: string, message: string): Lack {
  return { absent: false, final: false, code, message };
}
