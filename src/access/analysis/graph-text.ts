import type { AccessGraph, GraphEdge, GraphNode } from './graph.js';

/** What an edge says, in one line. */
export function edgeLabel({ operations, more, conditions }: GraphEdge): string {
  const [first = 'everything'] = operations;
  const others = operations.length - 1 + more;
  const also = others === 0 ? '' : ` (+${others})`;
  return `${first}${also}${conditions.length === 0 ? '' : ` if ${conditions.join(', ')}`}`;
}

/** The nodes of each namespace together; those of none under undefined. */
export function clusters(graph: AccessGraph): ReadonlyMap<string | undefined, readonly GraphNode[]> {
  const found = new Map<string | undefined, GraphNode[]>();
  for (const node of graph.nodes) {
    const list = found.get(node.namespace);
    if (list === undefined) found.set(node.namespace, [node]);
    else list.push(node);
  }
  return new Map([...found].sort(([a = ''], [b = '']) => (a < b ? -1 : a > b ? 1 : 0)));
}

/** For Graphviz. */
export function graphToDot(graph: AccessGraph): string {
  const ids = numbered(graph);
  const lines = ['digraph access {', '  rankdir=LR;', '  node [shape=box, fontname="sans-serif"];'];
  let cluster = 0;
  for (const [namespace, nodes] of clusters(graph)) {
    const indent = namespace === undefined ? '  ' : '    ';
    if (namespace !== undefined) {
      lines.push(`  subgraph cluster_${cluster++} {`, `    label=${dotText(namespace)};`);
    }
    for (const node of nodes) {
      const shape = node.kind === 'everybody' || node.kind === 'external' ? ', shape=ellipse' : '';
      lines.push(`${indent}${idOf(ids, node.id)} [label=${dotText(node.label)}${shape}];`);
    }
    if (namespace !== undefined) lines.push('  }');
  }
  for (const edge of graph.edges) {
    const style = edge.conditions.length === 0 ? '' : ', style=dashed';
    const label = dotText(edgeLabel(edge));
    lines.push(`  ${idOf(ids, edge.from)} -> ${idOf(ids, edge.to)} [label=${label}${style}];`);
  }
  for (const note of notes(graph)) lines.push(`  // ${oneLine(note)}`);
  lines.push('}', '');
  return lines.join('\n');
}

/** For Mermaid, as Markdown pages show it. */
export function graphToMermaid(graph: AccessGraph): string {
  const ids = numbered(graph);
  const lines = ['flowchart LR'];
  let cluster = 0;
  for (const [namespace, nodes] of clusters(graph)) {
    if (namespace !== undefined) lines.push(`  subgraph c${cluster++}["${mermaidText(namespace)}"]`);
    for (const node of nodes) {
      const text = mermaidText(node.label);
      const round = node.kind === 'everybody' || node.kind === 'external';
      lines.push(`    ${idOf(ids, node.id)}${round ? `(["${text}"])` : `["${text}"]`}`);
    }
    if (namespace !== undefined) lines.push('  end');
  }
  for (const edge of graph.edges) {
    const arrow = edge.conditions.length === 0 ? '-->' : '-.->';
    const label = mermaidText(edgeLabel(edge));
    lines.push(`  ${idOf(ids, edge.from)} ${arrow}|"${label}"| ${idOf(ids, edge.to)}`);
  }
  for (const note of notes(graph)) lines.push(`  %% ${oneLine(note)}`);
  return `${lines.join('\n')}\n`;
}

export function graphToJson(graph: AccessGraph): string {
  return `${JSON.stringify(graph, undefined, 2)}\n`;
}

/** What is missing from the picture. */
export function notes({ more, incomplete }: AccessGraph): readonly string[] {
  return [
    ...(more === 0 ? [] : [`and ${more} more edges`]),
    ...incomplete.map((name) => `edges to ${name} are missing: its policies are too complex`),
  ];
}

function numbered({ nodes }: AccessGraph): ReadonlyMap<string, string> {
  return new Map(nodes.map(({ id }, index) => [id, `n${index}`]));
}

function idOf(ids: ReadonlyMap<string, string>, id: string): string {
  return ids.get(id) ?? 'n';
}

/** Graphviz's quoted strings: only the quote and the backslash have a meaning there. */
function dotText(text: string): string {
  return `"${oneLine(text).replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** Mermaid reads `#code;` as a character; everything that could end a text or start a tag is written so. */
function mermaidText(text: string): string {
  return oneLine(text).replaceAll(
    /[^A-Za-z0-9 _.,:/()=+*-]/g,
    (character) => `#${character.codePointAt(0) ?? 32};`,
  );
}

function oneLine(text: string): string {
  // eslint-disable-next-line no-control-regex -- names come from files; control characters are what is looked for
  return text.replaceAll(/[\u0000-\u001f\u007f\u2028\u2029]/g, ' ');
}
