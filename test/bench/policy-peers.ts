/** Other policy engines, asked the same questions in this very process. They are no dependencies: npm brings them when first asked. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { built } from '../rig/cache.js';
import { runOpa } from '../rig/opa.js';
import { run } from '../rig/tools.js';

/** What all engines are given: whoever is `principal` may use `method` on what is below `prefix`, of one target. */
export interface PeerRule {
  readonly principal: string;
  readonly method: string;
  /** Ends in a slash. */
  readonly prefix: string;
}

export interface PeerRequest {
  /** Which of the targets. */
  readonly target: number;
  readonly principal: string;
  readonly method: string;
  readonly path: string;
}

export type Decide = (request: PeerRequest) => boolean;

/** The floor: what a program costs that knows nothing but these three fields. By target, then principal. */
export function plainMap(targets: readonly (readonly PeerRule[])[]): Decide {
  const indexed = targets.map((rules) => Map.groupBy(rules, ({ principal }) => principal));
  return ({ target, principal, method, path }) => {
    for (const rule of indexed[target]?.get(principal) ?? []) {
      if (rule.method === method && path.startsWith(rule.prefix)) return true;
    }
    return false;
  };
}

const REGO = {
  plain: 'some r in data.targets[input.target]\n\tr.principal == input.principal',
  indexed: 'some r in data.targets[input.target][input.principal]',
};

/**
 * OPA compiled to WebAssembly, run by its own SDK for Node. `plain`: the rules as a list, as one writes them; `indexed`: the
 * data arranged by hand under the principal. Both find the target at once.
 */
export async function opaWasm(
  targets: readonly (readonly PeerRule[])[],
  how: keyof typeof REGO,
): Promise<Decide> {
  const folder = await mkdtemp(join(tmpdir(), 'opa-'));
  try {
    const policy = join(folder, 'policy.rego');
    const bundle = join(folder, 'bundle.tar.gz');
    const match = 'r.method == input.method\n\tstartswith(input.path, r.prefix)';
    const head = 'package bench\n\ndefault allow := false\n';
    await writeFile(policy, `${head}\nallow if {\n\t${REGO[how]}\n\t${match}\n}\n`);
    const packed = await runOpa(['build', '-t', 'wasm', '-e', 'bench/allow', '-o', bundle, policy]);
    if (packed.code !== 0) throw new Error(`opa build ended with ${packed.code}: ${packed.stderr}`);
    const needs = { why: 'tar', skip: 'opa' };
    await run('tar', ['xzf', bundle, '-C', folder, '/policy.wasm'], needs);
    const { loadPolicy } = (await peer('@open-policy-agent/opa-wasm')) as OpaSdk;
    const wasm = await readFile(join(folder, 'policy.wasm'));
    const loaded = await loadPolicy(wasm, { initial: 5, maximum: 10_000 });
    loaded.setData({
      targets: how === 'plain' ? targets : targets.map((rules) => groupByPrincipal(rules)),
    });
    return (request) => loaded.evaluate(request)[0]?.result === true;
  } finally {
    await rm(folder, { recursive: true });
  }
}

const groupByPrincipal = (rules: readonly PeerRule[]): Readonly<Record<string, readonly PeerRule[]>> =>
  Object.fromEntries(Map.groupBy(rules, ({ principal }) => principal));

/** Cedar compiled to WebAssembly, one policy each, parsed ahead. */
export async function cedar(rules: readonly PeerRule[]): Promise<Decide> {
  const { preparsePolicySet, statefulIsAuthorized } = (await peer(
    '@cedar-policy/cedar-wasm/nodejs',
  )) as CedarSdk;
  const id = `bench-${rules.length}`;
  const text = rules.map(
    ({ principal, method, prefix }) =>
      `permit(principal == Workload::${JSON.stringify(principal)}, action == Action::"${method}", resource) ` +
      `when { context.path like "${prefix}*" };`,
  );
  const parsed = preparsePolicySet(id, { staticPolicies: text.join('\n') });
  if (parsed.type !== 'success') throw new Error(`Cedar has refused its policies: ${JSON.stringify(parsed)}`);
  return ({ principal, method, path }) => {
    const answer = statefulIsAuthorized({
      principal: { type: 'Workload', id: principal },
      action: { type: 'Action', id: method },
      resource: { type: 'Service', id: 'bench' },
      context: { path },
      entities: [],
      preparsedPolicySetId: id,
    });
    return answer.response?.decision === 'allow';
  };
}

/** Casbin, synchronous, one policy line each. */
export async function casbin(rules: readonly PeerRule[]): Promise<Decide> {
  const { newEnforcer, newModelFromString, StringAdapter } = (await peer('casbin')) as CasbinSdk;
  const model = newModelFromString(
    [
      '[request_definition]\nr = sub, obj, act',
      '[policy_definition]\np = sub, obj, act',
      '[policy_effect]\ne = some(where (p.eft == allow))',
      '[matchers]\nm = r.sub == p.sub && r.act == p.act && keyMatch(r.obj, p.obj)\n',
    ].join('\n'),
  );
  const lines = rules.map(({ principal, method, prefix }) => `p, ${principal}, ${prefix}*, ${method}`);
  const enforcer = await newEnforcer(model, new StringAdapter(lines.join('\n')));
  return ({ principal, method, path }) => enforcer.enforceSync(principal, path, method);
}

interface OpaSdk {
  loadPolicy(
    wasm: Buffer,
    memory: { readonly initial: number; readonly maximum: number },
  ): Promise<{
    setData(data: object): void;
    evaluate(input: PeerRequest): readonly { readonly result: unknown }[];
  }>;
}

interface CedarSdk {
  preparsePolicySet(id: string, policies: { readonly staticPolicies: string }): { readonly type: string };
  statefulIsAuthorized(call: object): { readonly response?: { readonly decision: string } };
}

interface CasbinSdk {
  newModelFromString(text: string): object;
  readonly StringAdapter: new (text: string) => object;
  newEnforcer(
    model: object,
    adapter: object,
  ): Promise<{ enforceSync(subject: string, object: string, action: string): boolean }>;
}

const sources = join(dirname(fileURLToPath(import.meta.url)), 'peers');

/** A package out of peers/package-lock.json. */
async function peer(name: string): Promise<unknown> {
  const folder = await built({
    name: 'policy-peers',
    sources: [sources],
    cost: 'a 5 MB download',
    async build(into: string): Promise<void> {
      await cp(sources, into, { recursive: true });
      const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
      await run('npm', ['ci', ...quiet], { why: 'npm', skip: 'opa', cwd: into });
    },
  });
  return createRequire(join(folder, 'package.json'))(name) as unknown;
}
