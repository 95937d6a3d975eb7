// Writes the fidelity tables of docs/policy/ between their markers: what each renderer itself says of each feature.
// Usage: node scripts/generate-fidelity.mjs [directory]   (in place unless said, else copies of the pages; needs dist/)
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import prettier from 'prettier';
import { CLUSTER, FEATURES, INSTANT, ISSUERS, ROLES, WAYPOINTS } from './fidelity-catalogue.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const pages = join(root, 'docs', 'policy');
const target = process.argv[2] ?? pages;
const load = (path) => import(pathToFileURL(join(root, 'dist', path)).href);
const { createInventory } = await load('access/mesh/inventory.js');
const { render, overallFidelity } = await load('access/mesh/renderer.js');
const { compilePolicySet } = await load('access/policy/policy-set.js');
const { labelsMatch } = await load('access/policy/selector.js');
const { ZoneClock } = await load('access/policy/time-window.js');
const { rendererOf } = await load('cli/meshes.js');

/** What a mesh's page tells of: one or more ways to render for it. The first is the mesh's column in the overview. */
const MESHES = [
  page(
    'istio',
    'Istio',
    ['Sidecars', {}],
    ['Ambient (ztunnel alone)', { ambient: true }],
    ['Ambient with a waypoint', { ambient: true }, WAYPOINTS],
  ),
  page('envoy', 'Envoy', ['Envoy', {}]),
  page(
    'networkpolicy',
    'NetworkPolicy',
    ['Alone', {}],
    ['Below a mesh (`--outer-layer`)', { outerLayer: true }],
  ),
  page('cilium', 'Cilium', ['Cilium', {}]),
  page('linkerd', 'Linkerd', ['Linkerd', {}]),
  page('kuma', 'Kuma', ['Kuma', {}]),
  page('gateway', 'Gateway API', ['Gateway API', {}], 'gateway-api'),
  page('opa', 'OPA', ['OPA', {}]),
];

const zones = new ZoneClock();
const inventory = createInventory(CLUSTER);
const features = Object.entries(FEATURES).flatMap(([group, list]) =>
  list.map(([name, input]) => ({ group, name, set: compile(name, input) })),
);
for (const mesh of MESHES) {
  for (const form of mesh.forms) form.rows = features.map((feature) => judge(form, feature));
}
mkdirSync(target, { recursive: true });
for (const { file, forms } of MESHES)
  await write(`${file}.md`, forms.map(formTable(forms.length)).join('\n\n'));
await write('README.md', overview());

function page(mesh, title, ...rest) {
  const file = typeof rest.at(-1) === 'string' ? rest.pop() : mesh;
  return {
    file,
    title,
    forms: rest.map(([name, options, cluster = CLUSTER]) => ({
      name,
      renderer: rendererOf(mesh, options),
      inventory: createInventory(cluster),
    })),
  };
}

function compile(name, input) {
  const set = compilePolicySet([input], {
    trustDomain: CLUSTER.trustDomain,
    roles: ROLES,
    identity: (ref) =>
      inventory.workloads.find((one) => one.namespace === ref.namespace && one.name === ref.name)?.spiffeIds,
    namespaces: (requirements) =>
      inventory.namespaces.filter(({ labels }) => labelsMatch(requirements, labels)).map((one) => one.name),
  });
  // A policy that does not compile would make a row about something else.
  const problems = set.policies.flatMap((policy) => policy.problems ?? []);
  if (problems.length > 0) throw new Error(`${name}: ${JSON.stringify(problems)}`);
  return set;
}

/** What a renderer says of a feature: of its rule, and where that is exact, of the policy as a whole. */
function judge({ renderer, inventory: there }, { name, set }) {
  const { verdicts } = render(renderer, { set, inventory: there, time: INSTANT, zones, issuers: ISSUERS });
  // Of what no request of the network can be about, there is nothing to render and nothing to lose.
  if (verdicts.length === 0 && !name.includes('no request of the network'))
    throw new Error(`${renderer.mesh} says nothing of ${name}`);
  const ofRule = verdicts.filter(({ rule }) => rule !== undefined);
  const telling = overallFidelity(ofRule) === 'Exact' ? verdicts : ofRule;
  const fidelity = overallFidelity(telling);
  // Where something is lost, the reasons are those of what is lost.
  const lost = telling.filter((verdict) => fidelity === 'Exact' || verdict.fidelity !== 'Exact');
  return { fidelity, reasons: [...new Set(lost.flatMap(({ reasons }) => reasons))] };
}

/** The table of one way to render. What most exact verdicts say is told once, above it. */
function formTable(count) {
  return ({ name, rows }) => {
    const common = conditions(rows);
    const head = count === 1 ? '' : `### ${name}\n\n`;
    const list = common.map((reason) => `- ${words(reason)}`).join('\n');
    const means = common.length === 0 ? '' : `Exact means here:\n\n${list}\n\n`;
    const table = features.map(({ group, name: feature }, index) => {
      const { fidelity, reasons } = rows[index];
      const own = reasons.filter((reason) => !common.includes(reason));
      const title = features[index - 1]?.group === group ? '' : `| **${group}** | | |\n`;
      return `${title}| ${feature} | ${fidelity.toLowerCase()} |${cell(own.map(words).join('; '))}|`;
    });
    return `${head}${means}| feature | fidelity | in the verdict's words |\n| --- | --- | --- |\n${table.join('\n')}`;
  };
}

/** Feature by mesh. */
function overview() {
  const columns = MESHES.map(({ title, file, forms: [form] }) => ({
    head: `[${title}](${file}.md#fidelity)`,
    form,
  }));
  const lines = features.map(({ group, name }, index) => {
    const title =
      features[index - 1]?.group === group ? '' : `| **${group}** |${' |'.repeat(columns.length)}\n`;
    return `${title}| ${name} | ${columns.map(({ form }) => sign(form.rows[index])).join(' | ')} |`;
  });
  return `| feature | ${columns.map(({ head }) => head).join(' | ')} |\n| --- |${' --- |'.repeat(columns.length)}\n${lines.join('\n')}`;
}

/** What most exact verdicts hang on. */
function conditions(rows) {
  const exact = rows.filter(({ fidelity }) => fidelity === 'Exact').map(({ reasons }) => reasons);
  const all = new Set(exact.flat());
  return [...all].filter(
    (reason) => exact.filter((reasons) => reasons.includes(reason)).length * 2 > exact.length,
  );
}

function cell(text) {
  return text === '' ? ' ' : ` ${text} `;
}

function sign({ fidelity }) {
  return fidelity === 'Unsupported' ? '–' : fidelity.toLowerCase();
}

/** As Markdown holds it. */
function words(text) {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('*', '\\*').replaceAll(/\s+/g, ' ');
}

/** Puts a text between the markers of a page. */
async function write(name, text) {
  const before = readFileSync(join(pages, name), 'utf8');
  const marked = /<!-- fidelity:.*?-->[\s\S]*<!-- \/fidelity -->/;
  if (!marked.test(before)) throw new Error(`docs/policy/${name} has no fidelity markers`);
  const notice = '<!-- fidelity: written by scripts/generate-fidelity.mjs, do not edit -->';
  // Tables whose columns are padded to their longest reason would be blanks for the most part.
  const plain = `<!-- prettier-ignore-start -->\n\n${text}\n\n<!-- prettier-ignore-end -->`;
  const after = before.replace(marked, () => `${notice}\n${plain}\n<!-- /fidelity -->`);
  const options = await prettier.resolveConfig(join(pages, name));
  writeFileSync(join(target, name), await prettier.format(after, { ...options, parser: 'markdown' }));
}
