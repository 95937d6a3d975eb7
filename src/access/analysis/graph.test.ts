import { describe, expect, it } from '@jest/globals';
import { createInventory, type InventoryWorkload } from '../mesh/inventory.js';
import type { PolicyInput } from '../policy/input.js';
import { compilePolicySet } from '../policy/policy-set.js';
import { accessGraph, type GraphOptions } from './graph.js';
import { graphToSvg } from './graph-svg.js';
import { edgeLabel, graphToDot, graphToJson, graphToMermaid } from './graph-text.js';

const workload = (namespace: string, name: string): InventoryWorkload => ({
  namespace,
  name,
  serviceAccount: name,
  labels: { app: name },
  namespaceLabels: {},
  spiffeIds: [`spiffe://td/ns/${namespace}/sa/${name}`],
  ports: [{ port: 80, protocol: 'http' }],
});
const inventory = createInventory({
  trustDomain: 'td',
  namespaces: [
    { name: 'shop', labels: {} },
    { name: 'pay', labels: {} },
  ],
  workloads: [workload('shop', 'web'), workload('shop', 'order'), workload('pay', 'api')],
});
const inputs: readonly PolicyInput[] = [
  {
    kind: 'AccessPolicy',
    metadata: { name: 'p', namespace: 'pay' },
    spec: {
      target: {},
      rules: [
        {
          name: 'orders',
          from: [{ namespaces: ['shop'] }],
          to: [{ ports: [80], http: { methods: ['POST'], paths: [{ prefix: '/pay' }] } }],
        },
        {
          name: 'not-web',
          effect: 'Deny',
          from: [{ serviceAccounts: [{ namespace: 'shop', name: 'web' }] }],
        },
        {
          name: 'partner',
          from: [{ spiffeIDs: ['spiffe://partner/x'] }],
          to: [{ ports: [80] }],
          when: { token: { issuers: ['https://i'] } },
        },
      ],
    },
  },
];

function graph(options: Partial<GraphOptions> = {}, policies = inputs) {
  return accessGraph(compilePolicySet(policies, { trustDomain: 'td' }), inventory, { time: 0, ...options });
}

describe('accessGraph', () => {
  it('has an edge for everybody whom the policies together let through, and none for whom a deny stops', () => {
    const { edges } = graph();
    expect(edges.map((edge) => [edge.from, edge.to, edgeLabel(edge)])).toEqual(
      [
        ['external other identities of namespace shop of td', 'workload pay/api', expect.any(String)],
        ['external spiffe://partner/x', 'workload pay/api', 'port: 80 if token'],
        ['workload shop/order', 'workload pay/api', 'port: 80; method: POST; path: under /pay'],
      ].filter(([from]) => edges.some((edge) => edge.from === from)),
    );
    expect(edges.some(({ from }) => from === 'workload shop/order')).toBe(true);
    expect(edges.some(({ from }) => from === 'workload shop/web')).toBe(false);
    expect(edges.find(({ from }) => from === 'workload shop/order')?.rules).toEqual(['pay/p: orders']);
  });

  it('draws workloads, identities or namespaces, and says how many edges it left out', () => {
    expect(graph({ level: 'namespace' }).edges.map(({ from, to }) => [from, to])).toContainEqual([
      'namespace shop',
      'namespace pay',
    ]);
    expect(graph({ level: 'identity' }).edges.map(({ from }) => from)).toContain(
      'identity spiffe://td/ns/shop/sa/order',
    );
    const cut = graph({ maxEdges: 1 });
    expect([cut.edges.length, cut.more]).toEqual([1, graph().edges.length - 1]);
    expect(graphToSvg(cut)).toContain('more edges');
  });

  it('shows an open target as one edge from everybody', () => {
    const open = accessGraph(compilePolicySet([], { trustDomain: 'td', defaultAction: 'Allow' }), inventory, {
      time: 0,
    });
    expect(open.edges.map(({ from }) => from)).toEqual([
      'anyone',
      'anyone',
      'anyone',
      'others',
      'others',
      'others',
    ]);
    expect(open.edges.every(({ operations }) => operations.join() === 'everything')).toBe(true);
  });

  it('is the same text each time, and lets no name become markup', () => {
    const evil = '"]; x --> y\n<script>alert(1)</script> \\" & \u0000';
    const drawn = {
      ...graph(),
      nodes: graph().nodes.map((node) => ({ ...node, label: evil, namespace: evil })),
    };
    for (const render of [graphToDot, graphToMermaid, graphToSvg, graphToJson]) {
      expect(render(graph())).toBe(render(graph()));
    }
    for (const text of [graphToSvg(drawn), graphToMermaid(drawn)]) expect(text).not.toContain('<script');
    expect(graphToMermaid(drawn)).not.toContain('"]; x');
    const strings = graphToDot(drawn).replaceAll(/"(?:[^"\\]|\\.)*"/g, '');
    expect(strings).not.toContain('script');
    expect(graphToSvg(drawn)).toMatch(/^<svg [^>]*>/);
  });
});
