import type { SpiffeId } from '../../identity/spiffe/id.js';
import { residualConditions, type ResidualConditions } from '../policy/effective.js';
import type {
  ActionOperation,
  AttributeMatch,
  ClaimMatch,
  Conditions,
  Effect,
  LabelRequirement,
  NetworkOperation,
  Operation,
  Policy,
  Rule,
  Source,
  SourceMatch,
  TargetWorkload,
  Tier,
} from '../policy/model.js';
import { isMethod } from '../policy/http.js';
import { labelsMatch } from '../policy/selector.js';
import { closes } from '../policy/target-policies.js';
import type { ZoneClock } from '../policy/time-window.js';
import { attributeTexts, isComparable } from './attribute-texts.js';
import { Diagram, FALSE, TRUE, type Node } from './diagram.js';
import { actionDimensions, type ActionDimensions } from './dimensions/actions.js';
import { attributeDimensions, type AttributeDimensions } from './dimensions/attributes.js';
import { addressDimension, type AddressDimension } from './dimensions/address.js';
import { callerDimensions, type CallerDimensions } from './dimensions/caller.js';
import { tokenDimensions, type TokenDimensions } from './dimensions/claims.js';
import { networkDimensions, type NetworkDimensions } from './dimensions/network.js';
import { sourceDimension, type SourceDimension } from './dimensions/source.js';
import { postureDimensions, type PostureDimensions } from './dimensions/posture.js';
import { ruleHoldsAt, timeClasses, type TimeClass } from './dimensions/times.js';
import { headerDimensions, queryDimensions, type ValueDimensions } from './dimensions/values.js';
import { opaqueNames } from './opaque.js';
import { certain, Space, type Dimension, type Leaf } from './space.js';

/** What a comparison is made with. */
export interface SpaceOptions {
  /** Requests from this instant on are looked at. */
  readonly from: number;
  readonly clock: ZoneClock;
  /** IDs that exist. */
  readonly knownIds: readonly SpiffeId[];
  readonly maxNodes?: number;
  /** Whether a rule's condition on the target's labels holds; by the target's own labels unless said. */
  readonly targetLabelsHold?: (requirements: readonly LabelRequirement[]) => boolean;
}

/** Of a rule, what the effect asks: an Allow rule where it holds, a Deny rule where that cannot be ruled out. */
export interface RuleRegion {
  readonly policy: Policy;
  readonly rule: Rule;
  readonly region: Node;
}

const ALWAYS: Leaf = certain(TRUE);

/**
 * The requests to one workload as its policies see them, and what policies say as functions over them. Written from the
 * semantics, not from the evaluator, so that each holds the other to account.
 */
export class TargetSpace {
  readonly space: Space;
  readonly diagram: Diagram;
  /** Requests that can come up at all. */
  readonly possible: Node;
  /** Requests of which everything is seen; and connections of which nothing of HTTP is. */
  readonly views: {
    readonly full: Node;
    /** The two halves of `full`. */
    readonly network: Node;
    readonly application: Node;
    readonly connection: Node;
  };
  /** The first of the variables that stand for CEL expressions; they are the last ones. */
  readonly firstOpaque: number;
  readonly source: SourceDimension;
  /** The instants that are told apart, the first one first: `from` itself. */
  readonly time: Dimension;
  readonly #labelsHold: (requirements: readonly LabelRequirement[]) => boolean;
  readonly #clock: ZoneClock;
  readonly #times: readonly TimeClass[];
  readonly #network: NetworkDimensions;
  readonly #address: AddressDimension;
  readonly #actions: ActionDimensions;
  readonly #headers: ValueDimensions;
  readonly #query: ValueDimensions;
  readonly #token: TokenDimensions;
  readonly #caller: CallerDimensions;
  readonly #posture: PostureDimensions;
  readonly #attributes: AttributeDimensions | undefined;
  readonly #opaque: ReadonlyMap<string, Leaf>;
  readonly #regions = new Map<Rule, Node>();

  constructor(target: TargetWorkload, policies: readonly Policy[], options: SpaceOptions) {
    this.#labelsHold = options.targetLabelsHold ?? ((asked) => labelsMatch(asked, target.labels));
    this.#clock = options.clock;
    this.diagram = new Diagram(options.maxNodes);
    const space = new Space(this.diagram);
    this.space = space;
    const atoms = collect(policies);
    this.#times = timeClasses(policies, options.from, options.clock);
    this.time = space.add(
      'time',
      'time',
      this.#times.map(({ time, words }) => ({ words, put: (draft) => void (draft.time = time) })),
    );
    const sources = atoms.sources.flatMap((source) => source.any);
    this.source = sourceDimension(space, sources, options.knownIds);
    const { uris } = this.source;
    const comparable = atoms.attributes.filter(isComparable);
    const texts = attributeTexts(
      comparable,
      uris.flatMap((uri) => uri ?? []),
    );
    this.#actions = actionDimensions(space, atoms.actions, comparable.length === 0 ? [] : texts);
    this.#network = networkDimensions(space, {
      ports: atoms.ports,
      operations: atoms.network,
      always: ALWAYS,
      methods: comparable.length === 0 ? [] : texts.filter(isMethod),
    });
    this.#address = addressDimension(
      space,
      atoms.sources.flatMap(({ ipBlocks }) => ipBlocks ?? []),
    );
    const { httpSeen } = this.#network;
    this.#headers = headerDimensions(
      space,
      atoms.network.flatMap(({ headers }) => headers ?? []),
      httpSeen,
    );
    this.#query = queryDimensions(
      space,
      atoms.network.flatMap(({ query }) => query ?? []),
      httpSeen,
    );
    this.#token = tokenDimensions(space, {
      tokens: atoms.conditions.flatMap(({ token }) => token ?? []),
      claims: [...atoms.claims, ...claimsOfAttributes(comparable, texts)],
    });
    this.#caller = callerDimensions(
      space,
      atoms.conditions.flatMap(({ sourceLabels }) => sourceLabels ?? []),
    );
    this.#posture = postureDimensions(
      space,
      atoms.conditions.flatMap(({ sourcePosture }) => sourcePosture ?? []),
      this.#caller.seen,
    );
    this.#attributes =
      comparable.length === 0
        ? undefined
        : attributeDimensions(space, comparable, texts, {
            application: this.#actions.application,
            token: this.#token.present,
            claim: (path) => this.#token.variable(path),
            methods: this.#network.methodTexts,
            actions: this.#actions.actionTexts,
            types: this.#actions.typeTexts,
            sources: uris.flatMap((uri, at) =>
              uri === undefined
                ? []
                : [[uri, space.where(this.source.dimension, (index) => index === at)] as const],
            ),
          });
    this.firstOpaque = space.dimensions.length;
    this.#opaque = opaqueDimensions(space, atoms.conditions);
    this.possible = this.#token.constraint;
    this.views = this.#views();
  }

  /** What a set of policies allows. Audited ones say nothing. */
  decision(policies: readonly Policy[], defaultAction: Effect): Node {
    return this.decide(policies, this.regions(policies), defaultAction);
  }

  /** The same, with the rules as given: for asking what would be without one. */
  decide(policies: readonly Policy[], rules: readonly RuleRegion[], defaultAction: Effect): Node {
    const { diagram } = this;
    const enforced = policies.filter(({ mode }) => mode === 'Enforce');
    const of = (effect: Effect, ...tiers: readonly Tier[]): Node =>
      diagram.or(
        ...rules
          .filter(({ policy, rule }) => rule.effect === effect && tiers.includes(policy.tier))
          .map(({ region }) => region),
      );
    const claimed = (holds: (policy: Policy) => boolean, ...tiers: readonly Tier[]): Node =>
      diagram.or(
        ...enforced
          .filter((policy) => tiers.includes(policy.tier) && holds(policy))
          .map(({ target }) => this.#network.ports(target.ports).possible),
      );
    const broken = (policy: Policy): boolean => policy.problems !== undefined;
    const denied = diagram.or(of('Deny', 'Admin', 'Namespaced'), claimed(broken, 'Admin', 'Namespaced'));
    const allowed = of('Allow', 'Admin', 'Namespaced');
    const closed = claimed(closes, 'Namespaced');
    const baselineDenied = diagram.or(of('Deny', 'Baseline'), claimed(broken, 'Baseline'));
    const fallback = defaultAction === 'Deny' ? FALSE : diagram.not(claimed(closes, 'Admin', 'Baseline'));
    const baseline = diagram.minus(diagram.or(of('Allow', 'Baseline'), fallback), baselineDenied);
    return diagram.minus(diagram.or(allowed, diagram.minus(baseline, closed)), denied);
  }

  /** The rules of the policies that are enforced, each with the requests that it takes. */
  regions(policies: readonly Policy[]): readonly RuleRegion[] {
    return policies
      .filter(({ mode }) => mode === 'Enforce')
      .flatMap((policy) => policy.rules.map((rule) => ({ policy, rule, region: this.region(policy, rule) })));
  }

  region(policy: Policy, rule: Rule): Node {
    const known = this.#regions.get(rule);
    if (known !== undefined) return known;
    const leaf = this.#rule(policy, rule);
    const region = this.diagram.and(this.possible, rule.effect === 'Allow' ? leaf.yes : leaf.possible);
    this.#regions.set(rule, region);
    return region;
  }

  #rule(policy: Policy, rule: Rule): Leaf {
    const { space } = this;
    const { when } = rule;
    if (when?.targetLabels !== undefined && !this.#labelsHold(when.targetLabels)) {
      return certain(FALSE);
    }
    const times = space.known(this.time, (index) => {
      const time = this.#times[index]?.time;
      return time !== undefined && ruleHoldsAt(policy, rule, time, this.#clock);
    });
    return space.all(
      times,
      this.#network.ports(policy.target.ports),
      space.some(...rule.from.map((source) => this.#from(source))),
      rule.to === undefined ? ALWAYS : space.some(...rule.to.map((operation) => this.#to(operation))),
      this.#when(residualConditions(when)),
    );
  }

  #from({ except, ...match }: Source): Leaf {
    const excepted = this.space.some(...except.map((one) => this.#matches(one)));
    return this.space.all(this.#matches(match), this.space.not(excepted));
  }

  #matches({ any, ipBlocks }: SourceMatch): Leaf {
    return this.space.all(
      this.space.some(...any.map((principal) => this.source.principal(principal))),
      ipBlocks === undefined ? ALWAYS : this.#address.inBlocks(ipBlocks),
    );
  }

  #to(operation: Operation): Leaf {
    const { space } = this;
    const granted =
      operation.grantedBy?.claim === undefined ? ALWAYS : this.#token.claim(operation.grantedBy.claim);
    if (operation.kind === 'action') return space.all(granted, this.#actions.matches(operation));
    return space.all(
      granted,
      certain(this.diagram.not(this.#actions.application)),
      this.#network.ports(operation.ports),
      this.#network.methods(operation.methods),
      this.#network.paths(operation.paths),
      this.#network.hosts(operation.hosts),
      ...(operation.headers ?? []).map((match) => this.#headers.matches(match)),
      ...(operation.query ?? []).map((match) => this.#query.matches(match)),
    );
  }

  #when(conditions: ResidualConditions | undefined): Leaf {
    if (conditions === undefined) return ALWAYS;
    const { token, sourceLabels, sourcePosture } = conditions;
    return this.space.all(
      token === undefined ? ALWAYS : this.#token.token(token),
      sourceLabels === undefined ? ALWAYS : this.#caller.labels(sourceLabels),
      sourcePosture === undefined ? ALWAYS : this.#posture.matches(sourcePosture),
      ...(conditions.attributes ?? [])
        .filter(isComparable)
        .map((match) => this.#attributes?.matches(match) ?? ALWAYS),
      ...opaqueNames(conditions).map((name) => this.#opaque.get(name) ?? ALWAYS),
    );
  }

  #views(): TargetSpace['views'] {
    const { diagram } = this;
    const { httpSeen, portSeen } = this.#network;
    const network = diagram.not(this.#actions.application);
    const plain = diagram.and(
      ...this.space.dimensions
        .filter(({ field }) => field === 'address' || field === 'header' || field === 'query')
        .map((dimension) => this.space.where(dimension, (_, { unseen }) => unseen !== true)),
    );
    const http = diagram.and(network, httpSeen, portSeen, plain, this.#token.seen, this.#caller.seen);
    const application = diagram.and(
      this.#actions.application,
      diagram.not(portSeen),
      diagram.not(httpSeen),
      this.#token.seen,
    );
    return {
      full: diagram.and(this.possible, diagram.or(http, application)),
      network: diagram.and(this.possible, http),
      application: diagram.and(this.possible, application),
      connection: diagram.and(
        this.possible,
        network,
        portSeen,
        diagram.not(httpSeen),
        diagram.not(this.#token.seen),
      ),
    };
  }
}

function opaqueDimensions(space: Space, conditions: readonly Conditions[]): ReadonlyMap<string, Leaf> {
  const names = new Set(conditions.flatMap(opaqueNames));
  return new Map(
    [...names].map((name) => {
      const words = ['true', 'false', 'not to be said'];
      const dimension = space.add(
        'condition',
        name,
        words.map((word) => ({ words: word, put: () => undefined })),
      );
      return [
        name,
        {
          yes: space.where(dimension, (index) => index === 0),
          possible: space.where(dimension, (index) => index !== 1),
        },
      ];
    }),
  );
}

/** Attributes of the subject may come from claims, so these are told apart by the same texts. */
function claimsOfAttributes(
  matches: readonly AttributeMatch[],
  texts: readonly string[],
): readonly ClaimMatch[] {
  const paths = matches.flatMap(({ path, other }) => [path, ...(other === undefined ? [] : [other])]);
  return paths.flatMap(([root, name = '']): readonly ClaimMatch[] =>
    root === 'subject' ? [{ path: [name === 'id' ? 'sub' : name], operator: 'In', values: texts }] : [],
  );
}

interface Atoms {
  readonly sources: readonly SourceMatch[];
  readonly network: readonly NetworkOperation[];
  readonly actions: readonly ActionOperation[];
  readonly conditions: readonly Conditions[];
  readonly attributes: readonly AttributeMatch[];
  readonly claims: readonly ClaimMatch[];
  readonly ports: ReadonlySet<number>;
}

function collect(policies: readonly Policy[]): Atoms {
  const rules = policies.flatMap((policy) => policy.rules);
  const operations = rules.flatMap(({ to }) => to ?? []);
  const network = operations.filter((operation) => operation.kind === 'network');
  return {
    sources: rules.flatMap(({ from }) => from.flatMap((source) => [source, ...source.except])),
    network,
    actions: operations.filter((operation) => operation.kind === 'action'),
    conditions: rules.flatMap(({ when }) => when ?? []),
    attributes: rules.flatMap(({ when }) => when?.attributes ?? []),
    claims: operations.flatMap(({ grantedBy }) => grantedBy?.claim ?? []),
    ports: new Set([
      ...policies.flatMap(({ target }) => target.ports ?? []),
      ...network.flatMap(({ ports }) => ports ?? []),
    ]),
  };
}
