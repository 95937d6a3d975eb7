import { compilePolicy } from './compile.js';
import type { PolicyInput, RoleInput } from './input.js';
import type { LabelRequirement, Policy } from './model.js';
import { createPolicySet, type PolicySet, type PolicySetOptions } from './policy-set.js';
import type { IdentityName, PrincipalResolver } from './principals.js';
import { compileRoles, type RoleTable } from './roles.js';

/** A policy under a name of the caller's, under which it may be changed later; without `input` there is none. */
export interface NamedPolicy {
  readonly key: string;
  readonly input: PolicyInput | undefined;
}

/** What is other than before. */
export interface PolicyChanges {
  readonly policies?: readonly NamedPolicy[];
  /** All AccessRoles as they are now, where one of them has changed. Objects are taken for the same while they are the same object. */
  readonly roles?: readonly RoleInput[];
  /** Who knows the cluster from now on, where its identities or namespaces have changed. */
  readonly resolver?: PrincipalResolver;
}

/** Policies that follow their resources. */
export interface PolicyCompiler {
  /** All policies as they are now. It stays what it is when there are others. */
  readonly set: PolicySet;
  /** Compiles what a change is about, and nothing else: the result is as if all had been compiled anew. */
  update(changes: PolicyChanges): PolicySet;
}

/** What a policy asked while it was compiled, and was told. */
type Answer = readonly unknown[];

interface Entry {
  readonly input: PolicyInput;
  readonly policy: Policy;
  readonly asked: ReadonlySet<string>;
}

/** Something outside of policies that some were compiled by. */
interface Question {
  readonly ask: (knowledge: Knowledge) => Answer;
  answer: Answer;
  /** The policies that asked it. */
  readonly by: Set<string>;
}

/** What policies are compiled by. */
interface Knowledge {
  readonly resolver: PrincipalResolver;
  readonly roles: RoleTable;
  readonly roleInputs: ReadonlyMap<unknown, readonly RoleInput[]>;
}

/** Compiles policies, to compile again later what has changed of them. */
export function createPolicyCompiler(
  policies: readonly NamedPolicy[],
  options: PrincipalResolver & PolicySetOptions,
): PolicyCompiler {
  return new Compiler(policies, options);
}

class Compiler implements PolicyCompiler {
  #set: PolicySet;
  #knowledge: Knowledge;
  readonly #entries = new Map<string, Entry>();
  readonly #questions = new Map<string, Question>();

  constructor(policies: readonly NamedPolicy[], options: PrincipalResolver & PolicySetOptions) {
    this.#knowledge = knowledgeOf(options, options.roles ?? []);
    this.#set = createPolicySet([], options);
    this.update({ policies });
  }

  get set(): PolicySet {
    return this.#set;
  }

  update({ policies = [], roles, resolver }: PolicyChanges): PolicySet {
    const knowledge = this.#knowing(roles, resolver);
    const answers = this.#otherAnswers(knowledge, roles !== undefined, resolver !== undefined);
    const stale = new Map<string, PolicyInput | undefined>();
    for (const key of this.#staleKeys(knowledge, answers.keys()))
      stale.set(key, this.#entries.get(key)?.input);
    for (const { key, input } of policies) stale.set(key, input);
    // All of it before anything is changed, since who answers may throw.
    const compiled = [...stale].map(([key, input]) => ({
      key,
      made: input === undefined ? undefined : compileWatched(input, knowledge),
    }));
    this.#knowledge = knowledge;
    for (const [question, answer] of answers) question.answer = answer;
    const removed: Policy[] = [];
    const added: Policy[] = [];
    for (const { key, made } of compiled) {
      const before = this.#entries.get(key);
      if (before !== undefined) removed.push(before.policy);
      this.#forget(key, before);
      if (made === undefined) continue;
      added.push(made.entry.policy);
      this.#remember(key, made);
    }
    this.#set = this.#set.replace(removed, added);
    return this.#set;
  }

  #knowing(roles: readonly RoleInput[] | undefined, resolver: PrincipalResolver | undefined): Knowledge {
    if (roles !== undefined) return knowledgeOf(resolver ?? this.#knowledge.resolver, roles);
    return resolver === undefined ? this.#knowledge : { ...this.#knowledge, resolver };
  }

  /** The questions that are answered otherwise than before. */
  #otherAnswers(knowledge: Knowledge, roles: boolean, resolver: boolean): ReadonlyMap<Question, Answer> {
    const others = new Map<Question, Answer>();
    for (const [name, question] of this.#questions) {
      if (!(name.startsWith(ROLE) ? roles : resolver)) continue;
      const answer = question.ask(knowledge);
      if (!isSame(answer, question.answer)) others.set(question, answer);
    }
    return others;
  }

  #staleKeys({ resolver }: Knowledge, questions: Iterable<Question>): Iterable<string> {
    const before = this.#knowledge.resolver;
    // What every policy may depend on without asking.
    const other =
      before.trustDomain !== resolver.trustDomain ||
      (before.identity === undefined) !== (resolver.identity === undefined) ||
      (before.namespaces === undefined) !== (resolver.namespaces === undefined);
    if (other) return this.#entries.keys();
    return new Set([...questions].flatMap(({ by }) => [...by]));
  }

  #remember(key: string, { entry, questions }: Compiled): void {
    this.#entries.set(key, entry);
    for (const [name, question] of questions) {
      const known = this.#questions.get(name);
      if (known === undefined) this.#questions.set(name, { ...question, by: new Set([key]) });
      else known.by.add(key);
    }
  }

  #forget(key: string, entry: Entry | undefined): void {
    this.#entries.delete(key);
    for (const name of entry?.asked ?? []) {
      const question = this.#questions.get(name);
      question?.by.delete(key);
      if (question?.by.size === 0) this.#questions.delete(name);
    }
  }
}

interface Compiled {
  readonly entry: Entry;
  readonly questions: ReadonlyMap<string, Pick<Question, 'ask' | 'answer'>>;
}

const ROLE = 'role ';

/** Compiles a policy, and notes what it asked. */
function compileWatched(input: PolicyInput, knowledge: Knowledge): Compiled {
  const questions = new Map<string, Pick<Question, 'ask' | 'answer'>>();
  const note = (name: string, ask: Question['ask']): void => {
    if (!questions.has(name)) questions.set(name, { ask, answer: ask(knowledge) });
  };
  const { resolver, roles } = knowledge;
  const watched: PrincipalResolver = {
    trustDomain: resolver.trustDomain,
    ...(resolver.identity === undefined
      ? {}
      : {
          identity(ref: IdentityName) {
            note(`identity ${JSON.stringify([ref.kind, ref.namespace, ref.name])}`, (known) => [
              ...(known.resolver.identity?.(ref) ?? [undefined]),
            ]);
            return resolver.identity?.(ref);
          },
        }),
    ...(resolver.namespaces === undefined
      ? {}
      : {
          namespaces(requirements: readonly LabelRequirement[]) {
            note(
              `namespaces ${textOf(requirements)}`,
              (known) => known.resolver.namespaces?.(requirements) ?? [],
            );
            return resolver.namespaces?.(requirements) ?? [];
          },
        }),
  };
  const table: RoleTable = {
    problems: roles.problems,
    resolve(name) {
      const role = roles.resolve(name);
      for (const one of role.through) note(`${ROLE}${one}`, (known) => known.roleInputs.get(one) ?? []);
      return role;
    },
  };
  const policy = compilePolicy(input, watched, table);
  return { entry: { input, policy, asked: new Set(questions.keys()) }, questions };
}

function knowledgeOf(resolver: PrincipalResolver, roles: readonly RoleInput[]): Knowledge {
  const named = (input: unknown): unknown =>
    (input as { readonly metadata?: { readonly name?: unknown } | null } | null)?.metadata?.name;
  return { resolver, roles: compileRoles(roles), roleInputs: Map.groupBy(roles, named) };
}

const textOf = (requirements: readonly LabelRequirement[]): string =>
  JSON.stringify(requirements.map((one) => ('values' in one ? { ...one, values: [...one.values] } : one)));

const isSame = (a: Answer, b: Answer): boolean =>
  a.length === b.length && a.every((item, index) => item === b[index]);
