import type { AccessGraph, GraphNode } from './graph.js';
import { clusters, edgeLabel, notes } from './graph-text.js';

const BOX = { width: 190, height: 34, gap: 14 };
const COLUMN = 360;
const PAD = 24;
/** Texts are cut to what a box holds; the whole text is in the tooltip. */
const MAX_LABEL = 27;
const MAX_EDGE_LABEL = 40;

interface Placed {
  readonly node: GraphNode;
  readonly x: number;
  readonly y: number;
}

/**
 * A picture in layers from left to right: who calls stands left of whom it calls where there is no ring, namespaces stand
 * together. The same graph gives the same picture. Nothing in a name becomes markup.
 */
export function graphToSvg(graph: AccessGraph): string {
  const layers = layersOf(graph);
  const placed = new Map<string, Placed>();
  const frames: string[] = [];
  let bottom = PAD;
  for (const [namespace, nodes] of clusters(graph)) {
    const top = bottom + (namespace === undefined ? 0 : 26);
    const rows = new Map<number, number>();
    for (const node of nodes) {
      const layer = layers.get(node.id) ?? 0;
      const row = rows.get(layer) ?? 0;
      rows.set(layer, row + 1);
      placed.set(node.id, {
        node,
        x: PAD * 2 + layer * COLUMN,
        y: top + row * (BOX.height + BOX.gap),
      });
    }
    const tallest = Math.max(1, ...rows.values());
    const end = top + tallest * (BOX.height + BOX.gap);
    if (namespace !== undefined) frames.push(frame(namespace, [...placed.values()], [bottom, end]));
    bottom = end + PAD;
  }
  const width = PAD * 4 + Math.max(0, ...layers.values()) * COLUMN + BOX.width;
  const said = notes(graph);
  const height = bottom + said.length * 18 + PAD;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    '<title>Who can reach what</title>',
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
    '<rect width="100%" height="100%" fill="#fff"/>',
    ...frames,
    ...graph.edges.map((edge) => arrow(edge, placed)),
    ...[...placed.values()].map(box),
    ...said.map((note, index) => text(PAD, bottom + index * 18, note, 'fill="#a00"')),
    '</svg>',
    '',
  ].join('\n');
}

/** The longest way from a node that nobody calls; edges that close a ring do not count. */
function layersOf({ nodes, edges }: AccessGraph): ReadonlyMap<string, number> {
  const out = new Map<string, string[]>();
  for (const { from, to } of edges) {
    if (from === to) continue;
    const list = out.get(from);
    if (list === undefined) out.set(from, [to]);
    else list.push(to);
  }
  const order: string[] = [];
  const state = new Map<string, 'open' | 'done'>();
  const forward = new Map<string, string[]>();
  for (const { id } of nodes) visit(id, out, { order, state, forward });
  const layers = new Map(nodes.map(({ id }) => [id, 0]));
  for (const id of order.reverse()) {
    for (const next of forward.get(id) ?? []) {
      layers.set(next, Math.max(layers.get(next) ?? 0, (layers.get(id) ?? 0) + 1));
    }
  }
  return layers;
}

interface Walk {
  /** Nodes after all that they reach. */
  readonly order: string[];
  readonly state: Map<string, 'open' | 'done'>;
  readonly forward: Map<string, string[]>;
}

/** Depth first, without recursion: graphs may be deeper than the stack. */
function visit(
  start: string,
  out: ReadonlyMap<string, readonly string[]>,
  { order, state, forward }: Walk,
): void {
  if (state.has(start)) return;
  const stack: { readonly id: string; next: number }[] = [{ id: start, next: 0 }];
  state.set(start, 'open');
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const to = (out.get(top.id) ?? [])[top.next++];
    if (to === undefined) {
      state.set(top.id, 'done');
      order.push(top.id);
      stack.pop();
      continue;
    }
    if (state.get(to) === 'open') continue;
    forward.set(top.id, [...(forward.get(top.id) ?? []), to]);
    if (state.has(to)) continue;
    state.set(to, 'open');
    stack.push({ id: to, next: 0 });
  }
}

function frame(
  namespace: string,
  placed: readonly Placed[],
  [top, bottom]: readonly [number, number],
): string {
  const inside = placed.filter(({ node }) => node.namespace === namespace);
  const left = Math.min(...inside.map(({ x }) => x)) - PAD / 2;
  const right = Math.max(...inside.map(({ x }) => x)) + BOX.width + PAD / 2;
  return (
    `<rect x="${left}" y="${top}" width="${right - left}" height="${bottom - top}" rx="8" fill="#f4f6f8" stroke="#c8d0d8"/>` +
    text(left + 8, top + 17, namespace, 'fill="#456" font-weight="bold"')
  );
}

function box({ node, x, y }: Placed): string {
  const round = node.kind === 'everybody' || node.kind === 'external';
  const fill = node.kind === 'everybody' ? '#fde8e8' : round ? '#fff4dc' : '#e5f0ff';
  return (
    `<g><title>${escaped(node.label)}</title>` +
    `<rect x="${x}" y="${y}" width="${BOX.width}" height="${BOX.height}" rx="${round ? 17 : 4}" fill="${fill}" stroke="#678"/>` +
    `${text(x + 10, y + 21, cut(node.label, MAX_LABEL), 'fill="#123"')}</g>`
  );
}

function arrow(edge: AccessGraph['edges'][number], placed: ReadonlyMap<string, Placed>): string {
  const from = placed.get(edge.from);
  const to = placed.get(edge.to);
  if (from === undefined || to === undefined) return '';
  const [x1, y1] = [from.x + BOX.width, from.y + BOX.height / 2];
  const [x2, y2] = [to.x, to.y + BOX.height / 2];
  const bend = Math.max(60, Math.abs(x2 - x1) / 2);
  const dashed = edge.conditions.length === 0 ? '' : ' stroke-dasharray="5 4"';
  const label = edgeLabel(edge);
  const rules = edge.rules.length === 0 ? 'by default' : edge.rules.join(', ');
  return (
    `<g><title>${escaped(`${label} — ${rules}`)}</title>` +
    `<path d="M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}" fill="none" stroke="#555"${dashed} marker-end="url(#arrow)"/>` +
    `${text((x1 + x2) / 2, (y1 + y2) / 2 - 4, cut(label, MAX_EDGE_LABEL), 'fill="#555" font-size="9" text-anchor="middle"')}</g>`
  );
}

function text(x: number, y: number, content: string, style: string): string {
  return `<text x="${x}" y="${y}" ${style}>${escaped(content)}</text>`;
}

function cut(content: string, length: number): string {
  return content.length > length ? `${content.slice(0, length - 1)}…` : content;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

/** Text for XML 1.0: markup is escaped, what may not stand in it at all becomes a space. */
function escaped(content: string): string {
  return Array.from(content, (character) => {
    const code = character.codePointAt(0) ?? 0;
    const forbidden =
      code < 0x20 || code === 0x7f || (code >= 0xd800 && code < 0xe000) || code === 0xfffe || code === 0xffff;
    return forbidden ? ' ' : (ENTITIES[character] ?? character);
  }).join('');
}
