import { Command, Option } from 'commander';
import { stringify } from 'yaml';
import { accessGraph, type AccessGraph, type GraphLevel } from '../../access/analysis/graph.js';
import { graphToSvg } from '../../access/analysis/graph-svg.js';
import { graphToDot, graphToMermaid } from '../../access/analysis/graph-text.js';
import {
  instantOf,
  openAccessSource,
  timeOption,
  trustDomainOption,
  type SourceOptions,
} from '../access-source.js';
import { addClusterOptions } from '../cluster.js';
import type { CliIo } from '../io.js';
import { RESOURCES_OR_CLUSTER } from '../resource-files.js';

interface GraphOptions extends SourceOptions {
  readonly output: 'dot' | 'mermaid' | 'svg' | 'json' | 'yaml';
  readonly level: GraphLevel;
  readonly at?: string;
}

const WRITERS: Readonly<Record<GraphOptions['output'], (graph: AccessGraph) => string>> = {
  dot: graphToDot,
  mermaid: graphToMermaid,
  svg: graphToSvg,
  json: (graph) => JSON.stringify(graph),
  yaml: (graph) => `---\n${stringify(graph, { aliasDuplicateObjects: false })}`,
};

/** `signet graph`. */
export function graphCommand(io: CliIo): Command {
  const command = new Command('graph')
    .description('Draw who can reach what, by the policies of a folder or file.')
    .argument('[path]', RESOURCES_OR_CLUSTER)
    .addOption(
      new Option('-o, --output <format>', 'how it is drawn')
        .choices(['dot', 'mermaid', 'svg', 'json', 'yaml'])
        .default('dot'),
    )
    .addOption(
      new Option('--level <level>', 'what a box stands for')
        .choices(['workload', 'identity', 'namespace'])
        .default('workload'),
    );
  return addClusterOptions(command)
    .addOption(timeOption())
    .addOption(trustDomainOption())
    .action(async (path: string | undefined, options: GraphOptions) => {
      const { policies, inventory } = await openAccessSource(io, path, options);
      const graph = accessGraph(policies, inventory, {
        time: instantOf(io, options.at),
        level: options.level,
      });
      const text = WRITERS[options.output](graph);
      io.stdout(text.endsWith('\n') ? text : `${text}\n`);
    });
}
