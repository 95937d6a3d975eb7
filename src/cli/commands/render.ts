import { Command, Option } from 'commander';
import { createInventory } from '../../access/mesh/inventory.js';
import { render, type RenderContext, type Rendering, type Verdict } from '../../access/mesh/renderer.js';
import { policyName } from '../../access/policy/model.js';
import { ZoneClock } from '../../access/policy/time-window.js';
import {
  instantOf,
  openAccessSource,
  timeOption,
  trustDomainOption,
  type AccessSource,
  type SourceOptions,
} from '../access-source.js';
import type { MeshSettings } from '../../cluster/mesh-settings.js';
import { addClusterOptions, CLUSTER_ROOT } from '../cluster.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { addMeshOptions } from '../mesh-flags.js';
import { MESHES, rendererOf, type MeshOptions } from '../meshes.js';
import { writeBundle, type BundleFlags } from '../opa-bundle.js';
import { objectsText, time } from '../output.js';
import { openForReport, writeSarif } from '../report.js';
import { RENDER_RULES } from '../report-rules.js';
import { RESOURCES_OR_CLUSTER } from '../resource-files.js';
import { fileFindings, type ReportedFinding } from '../sarif.js';

interface RenderOptions extends MeshOptions, BundleFlags, SourceOptions {
  readonly mesh: string;
  readonly output: 'yaml' | 'json' | 'verdicts' | 'text' | 'sarif';
  readonly strict?: true;
  readonly trustDomainAlias?: readonly string[];
  readonly at?: string;
}

/** `signet render`. */
export function renderCommand(io: CliIo): Command {
  const command = new Command('render')
    .description(
      'Print the policies of a folder or file as the rules of a mesh, and on standard error how faithful these are. ' +
        'What cannot be said exactly is narrowed or left out, never widened.',
    )
    .argument('[path]', RESOURCES_OR_CLUSTER)
    .addOption(new Option('--mesh <mesh>', 'which mesh').choices([...MESHES]).makeOptionMandatory())
    .addOption(
      new Option(
        '-o, --output <format>',
        'the objects as YAML or JSON, or the verdicts alone: JSON (verdicts), text or SARIF 2.1.0',
      )
        .choices(['yaml', 'json', 'verdicts', 'text', 'sarif'])
        .default('yaml'),
    )
    .option('--strict', 'exit code 1 unless every verdict is exact');
  return addClusterOptions(addMeshOptions(command))
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .action((path: string | undefined, options: RenderOptions) => {
      if (options.mesh !== 'opa' && options.bundle !== undefined) command.error('--bundle is for --mesh opa');
      if (options.signingKey !== undefined && options.bundle === undefined)
        command.error('--signing-key signs a bundle: name one with --bundle');
      return renderPolicies(io, path, options);
    });
}

async function renderPolicies(io: CliIo, path: string | undefined, options: RenderOptions): Promise<void> {
  const { output } = options;
  const about = { format: output, root: path ?? CLUSTER_ROOT, rules: Object.values(RENDER_RULES) };
  const source = await openForReport(io, about, () => openAccessSource(io, path, options));
  const context = contextOf(source, instantOf(io, options.at), options.trustDomainAlias);
  const rendering = renderOrBundle(context, options, source.meshes);
  if (output === 'sarif') {
    const findings = [...fileFindings(source.warnings), ...reported(rendering, source)];
    writeSarif(io, { ...about, findings, done: true });
  } else {
    io.stdout(written(rendering, output));
    if (output === 'yaml' || output === 'json')
      for (const line of verdictLines(rendering)) io.stderr(`${line}\n`);
  }
  if (options.strict === true && rendering.verdicts.some(({ fidelity }) => fidelity !== 'Exact')) {
    throw new ExitWith(EXIT.negative);
  }
}

function contextOf(
  { policies, inventory, issuers }: AccessSource,
  instant: number,
  aliases: readonly string[] | undefined,
): RenderContext {
  return {
    set: policies,
    inventory:
      aliases === undefined ? inventory : createInventory({ ...inventory, trustDomainAliases: aliases }),
    time: instant,
    zones: new ZoneClock(),
    issuers,
  };
}

/** With `--bundle` the objects are in a file, so there are none to print. */
function renderOrBundle(context: RenderContext, options: RenderOptions, meshes: MeshSettings): Rendering {
  if (options.bundle === undefined) return render(rendererOf(options.mesh, options, meshes), context);
  const { verdicts } = writeBundle(context, options.bundle, options);
  return { mesh: options.mesh, objects: [], verdicts };
}

function written(rendering: Rendering, output: Exclude<RenderOptions['output'], 'sarif'>): string {
  const { mesh, objects, verdicts, until } = rendering;
  switch (output) {
    case 'yaml':
    case 'json':
      return objectsText(output, objects);
    case 'verdicts':
      return `${JSON.stringify({ mesh, verdicts, ...(until === undefined ? {} : { until: time(until) }) })}\n`;
    case 'text':
      return verdictLines(rendering)
        .map((line) => `${line}\n`)
        .join('');
  }
}

/** What is not exact, at the rule or policy that it is about. */
function reported({ mesh, verdicts }: Rendering, { placeOf }: AccessSource): readonly ReportedFinding[] {
  return verdicts
    .filter(({ fidelity }) => fidelity !== 'Exact')
    .map((verdict): ReportedFinding => {
      const { policy, rule, fidelity } = verdict;
      const place = placeOf(policy, rule);
      return {
        rule: fidelity === 'Narrower' ? RENDER_RULES.narrower : RENDER_RULES.unsupported,
        message: `${mesh}: ${verdictLine(verdict)}`,
        subject: `${nameOf(verdict)} for ${mesh}`,
        ...(place === undefined ? {} : { place }),
      };
    });
}

function verdictLines({ verdicts, until }: Rendering): readonly string[] {
  const lines = verdicts.map(verdictLine);
  return until === undefined
    ? lines
    : [
        ...lines,
        `this holds until ${time(until)}: then a policy begins, ends or opens its hours, so render again`,
      ];
}

function verdictLine(verdict: Verdict): string {
  const { fidelity, reasons, targets } = verdict;
  const where = targets === undefined || targets.length === 0 ? '' : ` on ${targets.join(', ')}`;
  const why = reasons.length === 0 ? '' : `: ${reasons.join('; ')}`;
  return `${fidelity.toLowerCase()}: ${nameOf(verdict)}${where}${why}`;
}

function nameOf({ policy, rule }: Verdict): string {
  return rule === undefined ? policyName(policy) : `${policyName(policy)}/${rule}`;
}
