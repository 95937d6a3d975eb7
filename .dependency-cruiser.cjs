/* The import laws of ARCHITECTURE.md. Each says why it stands. */
const room = (name) => `^src/${name}(/|$)`;

/** A room may import only these rooms (and itself). */
function only(from, to, comment) {
  return {
    name: `${from.replaceAll('/', '-')}-imports-only`,
    comment,
    severity: 'error',
    from: { path: room(from), pathNot: '[.]test[.]ts$' },
    to: { path: '^src/', pathNot: [from, ...to].map(room).join('|') },
  };
}

/** A package may be imported only in these places. */
function packageOnlyIn(name, places, comment) {
  return {
    name: `only-there-${name.replaceAll(/[^a-z0-9]+/gi, '-')}`,
    comment,
    severity: 'error',
    from: { path: '^src/', pathNot: `${places.join('|')}|[.]test[.]ts$` },
    to: { path: `^node_modules/${name}(/|$)` },
  };
}

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    only('lib', [], 'lib knows nothing of the project'),
    only('identity/spiffe', ['lib'], 'SPIFFE values are true anywhere'),
    only('identity/pki', ['lib', 'identity/spiffe'], 'certificates know IDs, not keys at rest'),
    only(
      'identity/keys',
      ['lib', 'identity/spiffe', 'identity/pki'],
      'where keys live knows nothing of who signs',
    ),
    only(
      'identity/ca',
      ['lib', 'identity/spiffe', 'identity/pki', 'identity/keys'],
      'the CA signs; it does not know who asks',
    ),
    only('identity/registration', ['lib', 'identity/spiffe', 'resources'], 'pods x identities is pure'),
    only(
      'identity/tokens',
      ['lib', 'identity/spiffe'],
      'a token is judged by keys alone, wherever it came in',
    ),
    only('access', ['lib', 'identity/spiffe'], 'who may do what is pure'),
    {
      name: 'mesh-imports-no-other-mesh',
      comment: 'what two meshes need stands beside them, in access/mesh/',
      severity: 'error',
      from: { path: '^src/access/mesh/([^/]+)/' },
      to: { path: '^src/access/mesh/[^/]+/', pathNot: '^src/access/mesh/$1/' },
    },
    {
      name: 'policy-knows-no-mesh',
      comment: 'the language does not depend on what it is translated to, nor on who analyses it',
      severity: 'error',
      from: { path: '^src/access/policy/', pathNot: '[.]test[.]ts$' },
      to: { path: '^src/access/(mesh|analysis|import|testing)/' },
    },
    {
      name: 'analysis-knows-no-mesh',
      comment:
        'what policies say is analysed from the policies and from what there is, never from a rendering',
      severity: 'error',
      from: { path: '^src/access/analysis/', pathNot: '[.]test[.]ts$' },
      to: { path: '^src/access/', pathNot: '^src/access/(analysis/|policy/|mesh/inventory[.]ts$)' },
    },
    only('resources', ['lib', 'identity/spiffe', 'access'], 'what was asked'),
    only('store', ['lib', 'resources', 'identity/spiffe'], 'a store reads and writes resources'),
    only('rpc', ['lib', 'identity/spiffe', 'identity/registration'], 'how programs talk'),
    only(
      'cluster',
      ['lib', 'identity/spiffe', 'identity/registration', 'access', 'resources', 'store'],
      'what there is, as the pure rooms want it; whoever has a store may ask',
    ),
    only(
      'server',
      ['lib', 'identity', 'access', 'resources', 'store', 'cluster', 'rpc'],
      'server and agent never import each other',
    ),
    only(
      'agent',
      ['lib', 'identity/spiffe', 'identity/pki', 'identity/registration', 'identity/tokens', 'access', 'rpc'],
      'the agent holds no authority key and no Kubernetes right',
    ),
    only(
      'workload',
      ['lib', 'identity/spiffe', 'identity/pki', 'access', 'rpc'],
      'a library for workloads: nothing of server or store',
    ),
    only(
      'cli',
      ['lib', 'identity', 'access', 'resources', 'store', 'cluster', 'rpc', 'workload'],
      'commands',
    ),
    only('operate', ['lib', 'rpc'], 'what operators see is said by whoever composes it'),
    {
      name: 'http-knows-no-grpc',
      comment: 'JSON over HTTP is served without the gRPC library and its messages',
      severity: 'error',
      from: { path: '^src/rpc/http/', pathNot: '[.]test[.]ts$' },
      to: {
        path: '^src/rpc/(gen/|authority/|(server|client|call|envoy-messages)[.]ts$)|^node_modules/@grpc/',
      },
    },
    {
      name: 'applications-know-no-transport',
      comment:
        'what applications ask is answered whatever carries it: of rpc, the forms of call and answer alone',
      severity: 'error',
      from: { path: '^src/agent/applications/', pathNot: '[.]test[.]ts$' },
      to: { path: '^src/rpc/', pathNot: '^src/rpc/(service|http/route)[.]ts$' },
    },
    {
      name: 'nobody-imports-main',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/main/' },
      to: { path: '^src/main/' },
    },
    {
      name: 'src-never-imports-test',
      severity: 'error',
      from: { path: '^src/', pathNot: '[.]test[.]ts$' },
      to: { path: '^test/|[.]test[.]ts$' },
    },
    {
      name: 'gen-only-through-rpc-and-implementers',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(rpc|agent|server|workload|cli)/' },
      to: { path: '^src/rpc/gen/' },
    },
    packageOnlyIn('node-forge', ['^src/identity/pki/'], 'forge encodes DER and nothing else'),
    packageOnlyIn('@grpc/grpc-js', ['^src/rpc/', '^src/main/'], 'gRPC stays at the edge'),
    packageOnlyIn('@kubernetes/client-node', ['^src/store/kubernetes/'], 'Kubernetes stays behind the store'),
    packageOnlyIn('prom-client', ['^src/operate/metrics/'], 'metrics are made from one list'),
    packageOnlyIn(
      'koffi',
      ['^src/rpc/peer/', '^src/rpc/mount/', '^src/rpc/netlink/'],
      'the FFI reads peer credentials, mounts volumes and sets the rules of captured ports, and does nothing else',
    ),
    packageOnlyIn('winston', ['^src/main/logging[.]ts$'], 'the log has one writer'),
    {
      name: 'pure-rooms-do-no-io',
      comment: 'policy, registration and SPIFFE values touch no file, socket or process',
      severity: 'error',
      from: {
        path: '^src/(access|identity/registration|identity/spiffe|resources)/',
        pathNot: '[.]test[.]ts$',
      },
      to: {
        dependencyTypes: ['core'],
        path: '^(node:)?(fs|fs/promises|net|http|https|http2|tls|dns|child_process|worker_threads|os|dgram)$',
      },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
