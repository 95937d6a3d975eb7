/**
 * One mesh's rendering of 10,000 policies over 10,000 workloads, in a process of its own, so that its memory is its own:
 * `node --import ../support/run-typescript.mjs render-one.ts istio`. Prints one line of JSON.
 */
import type * as Incremental from '../../src/access/mesh/incremental.js';
import type * as InventoryRoom from '../../src/access/mesh/inventory.js';
import type { InventoryWorkload } from '../../src/access/mesh/inventory.js';
import type * as Renderers from '../../src/access/mesh/renderer.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import type * as Compilers from '../../src/access/policy/policy-compiler.js';
import type * as Windows from '../../src/access/policy/time-window.js';
import type * as Meshes from '../../src/cli/meshes.js';
import { quantile } from './quantile.js';

/** Times are in milliseconds. */
export interface RenderFigures {
  readonly compile: number;
  readonly render: number;
  /** The most that the process had in memory until then, inventory and policies included; in MB. */
  readonly rss: number;
  readonly objects: number;
  /** One policy's edit: the set of policies, and the rendering. */
  readonly setP50: number;
  readonly setP99: number;
  readonly changeP50: number;
  readonly changeP99: number;
}

const NAMESPACES = 100;
const APPS = 100;
const CHANGES = 200;
/** For what is rendered as a whole each time. */
const ENOUGH_MS = 3000;

async function measure(mesh: string): Promise<RenderFigures> {
  // What is shipped is measured; the types are those of its source.
  const built = async <T>(path: string): Promise<T> =>
    (await import(new URL(`../../dist/${path}`, import.meta.url).href)) as T;
  const { createIncrementalRender } = await built<typeof Incremental>('access/mesh/incremental.js');
  const { createInventory } = await built<typeof InventoryRoom>('access/mesh/inventory.js');
  const { render } = await built<typeof Renderers>('access/mesh/renderer.js');
  const { createPolicyCompiler } = await built<typeof Compilers>('access/policy/policy-compiler.js');
  const { ZoneClock } = await built<typeof Windows>('access/policy/time-window.js');
  const { rendererOf } = await built<typeof Meshes>('cli/meshes.js');

  const inventory = createInventory({
    trustDomain: 'td',
    namespaces: Array.from({ length: NAMESPACES }, (_, at) => ({
      name: `ns-${at}`,
      labels: { tier: 'app' },
    })),
    workloads: Array.from({ length: NAMESPACES * APPS }, (_, at) => workload(at)),
  });
  const inputs = Array.from({ length: NAMESPACES * APPS }, (_, at) => ({
    key: `${at}`,
    input: policy(at, 1),
  }));
  const context = (set: Compilers.PolicyCompiler['set']): Renderers.RenderContext => ({
    ...{ set, inventory, time: 0, zones: new ZoneClock() },
  });

  const compiled = timed(() => createPolicyCompiler(inputs, { trustDomain: 'td' }));
  const compiler = compiled.value;
  const broken = compiler.set.policies.find(({ problems }) => problems !== undefined);
  if (broken !== undefined) throw new Error(JSON.stringify(broken.problems));
  const rendered = timed(() => render(rendererOf(mesh, {}), context(compiler.set)));
  const rss = (process.resourceUsage().maxRSS * 1024) / 1e6;

  const incremental = createIncrementalRender(rendererOf(mesh, {}));
  incremental.update(context(compiler.set));
  const sets: number[] = [];
  const changes: number[] = [];
  const end = performance.now() + ENOUGH_MS;
  for (let change = 0; change < CHANGES && performance.now() < end; change++) {
    const at = (change * 7919) % inputs.length;
    const edited = { key: `${at}`, input: policy(at, 4 + (change % 50)) };
    const set = timed(() => compiler.update({ policies: [edited] }));
    const update = timed(() => incremental.update(context(set.value)));
    // OPA's data are too large for a ConfigMap, so there are none.
    if (mesh !== 'opa' && update.value.changed.length === 0) throw new Error('the edit changed nothing');
    sets.push(set.ms);
    changes.push(update.ms);
  }
  return {
    ...{ compile: compiled.ms, render: rendered.ms, rss, objects: rendered.value.objects.length },
    ...{ setP50: quantile(sets, 0.5), setP99: quantile(sets, 0.99) },
    ...{ changeP50: quantile(changes, 0.5), changeP99: quantile(changes, 0.99) },
  };
}

function timed<T>(act: () => T): { readonly value: T; readonly ms: number } {
  const from = performance.now();
  const value = act();
  return { value, ms: performance.now() - from };
}

function workload(at: number): InventoryWorkload {
  const namespace = `ns-${at % NAMESPACES}`;
  const name = `app-${Math.floor(at / NAMESPACES)}`;
  return {
    ...{ namespace, name, serviceAccount: name, namespaceLabels: { tier: 'app' } },
    labels: { app: name, 'app.kubernetes.io/name': name, version: 'v1' },
    spiffeIds: [`spiffe://td/ns/${namespace}/sa/${name}`],
    ports: [
      { port: 8080, protocol: 'http' },
      { port: 9090, protocol: 'tcp' },
    ],
  };
}

/** One workload's; `reader` is what its edits are about: two callers by service account, with methods and paths, and a namespace that may connect to a port. */
function policy(at: number, reader: number): PolicyInput {
  const caller = (rule: number): object => ({
    serviceAccounts: [
      {
        namespace: `ns-${(at + rule) % NAMESPACES}`,
        name: `app-${(Math.floor(at / NAMESPACES) + rule) % APPS}`,
      },
    ],
  });
  const app = `app-${Math.floor(at / NAMESPACES)}`;
  const http = (methods: readonly string[], paths: readonly object[]): object => ({
    ports: [8080],
    http: { methods, paths },
  });
  return {
    kind: 'AccessPolicy',
    metadata: { name: `p-${at}`, namespace: `ns-${at % NAMESPACES}` },
    spec: {
      target: { podSelector: { matchLabels: { app } } },
      rules: [
        { name: 'read', from: [caller(reader)], to: [http(['GET'], [{ prefix: '/api' }])] },
        { name: 'write', from: [caller(2)], to: [http(['POST', 'PUT'], [{ template: '/api/items/{id}' }])] },
        { name: 'metrics', from: [{ namespaces: [`ns-${reader}`] }], to: [{ ports: [9090] }] },
      ],
    },
  };
}

console.log(JSON.stringify(await measure(process.argv[2] ?? '')));
