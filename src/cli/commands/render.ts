import { Command, Option } from 'commander';
import { stringify } from 'yaml';
import { policyName } from '../../access/policy/model.js';
import { ZoneClock } from '../../access/policy/time-window.js';
import { render, type Rendering, type Verdict } from '../../access/mesh/renderer.js';
import { instantOf, openAccessSource, timeOption, trustDomainOption } from '../access-source.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { MESHES, rendererOf, type MeshOptions } from '../meshes.js';
import { time } from '../output.js';

interface RenderOptions extends MeshOptions {
  readonly mesh: string;
  readonly output: 'yaml' | 'json' | 'verdicts';
  readonly strict?: true;
  readonly trustDomain?: string;
  readonly at?: string;
}

/** `signet render`. */
export function renderCommand(io: CliIo): Command {
  return new Command('render')
    .description(
      'Print the policies of a folder or file as the rules of a mesh, and on standard error how faithful these are. ' +
        'What cannot be said exactly is narrowed or left out, never widened.',
    )
    .argument('<path>')
    .addOption(new Option('--mesh <mesh>', 'which mesh').choices([...MESHES]).makeOptionMandatory())
    .addOption(
      new Option('-o, --output <format>', 'the objects as YAML or JSON, or the verdicts alone as JSON')
        .choices(['yaml', 'json', 'verdicts'])
        .default('yaml'),
    )
    .option('--root-namespace <namespace>', 'istio: the namespace whose objects hold in the whole mesh')
    .option('--ambient', 'istio: for ztunnel alone, which sees connections and no HTTP')
    .option(
      '--outer-layer',
      'networkpolicy: a mesh behind it enforces HTTP and the rest, so open what that needs',
    )
    .option('--linkerd-namespace <namespace>', 'linkerd: where its control plane is; linkerd unless said')
    .option('--linkerd-trust-domain <name>', 'linkerd: its own trust domain; cluster.local unless said')
    .option(
      '--probe-network <block...>',
      "linkerd: addresses that the kubelets' probes come from; HTTP probes are denied without",
    )
    .option('--strict', 'exit code 1 unless every verdict is exact')
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .action((path: string, options: RenderOptions) => renderPolicies(io, path, options));
}

async function renderPolicies(io: CliIo, path: string, options: RenderOptions): Promise<void> {
  const { policies, inventory, issuers } = await openAccessSource(io, path, options);
  const context = {
    set: policies,
    inventory,
    time: instantOf(io, options.at),
    zones: new ZoneClock(),
    issuers,
  };
  const rendering = render(rendererOf(options.mesh, options), context);
  io.stdout(written(rendering, options.output));
  if (options.output !== 'verdicts') for (const line of verdictLines(rendering)) io.stderr(`${line}\n`);
  if (options.strict === true && rendering.verdicts.some(({ fidelity }) => fidelity !== 'Exact')) {
    throw new ExitWith(EXIT.negative);
  }
}

function written({ mesh, objects, verdicts, until }: Rendering, output: RenderOptions['output']): string {
  switch (output) {
    case 'yaml':
      return objects.map((object) => `---\n${stringify(object)}`).join('');
    case 'json':
      return `${JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })}\n`;
    case 'verdicts':
      return `${JSON.stringify({ mesh, verdicts, ...(until === undefined ? {} : { until: time(until) }) })}\n`;
  }
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

function verdictLine({ policy, rule, fidelity, reasons, targets }: Verdict): string {
  const what = rule === undefined ? policyName(policy) : `${policyName(policy)}/${rule}`;
  const where = targets === undefined || targets.length === 0 ? '' : ` on ${targets.join(', ')}`;
  return `${fidelity.toLowerCase()}: ${what}${where}${reasons.length === 0 ? '' : `: ${reasons.join('; ')}`}`;
}
