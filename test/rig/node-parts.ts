/** What a node needs beside Kubernetes itself: container runtime, network plugins, the pause container, DNS; and helm. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { built, type Part } from './cache.js';
import { debianPackages, goBuildStatic, goModuleVersion, run } from './tools.js';

const engines = join(dirname(fileURLToPath(import.meta.url)), 'engines');
const folderOf = (name: string): string => join(engines, name);

/** The name by which `SIGNET_RIG_SKIP` skips all of it. */
const SKIP = 'node';
/** Programs of a running node that the machine must have. */
const RUNTIME_PACKAGES = ['iproute2', 'nftables', 'busybox-static'];
const BUILD_PACKAGES = ['gcc', 'libc6-dev', 'libseccomp-dev', 'pkg-config'];

const CNI_PLUGINS = ['main/bridge', 'main/loopback', 'ipam/host-local', 'meta/portmap'];

export const nodeParts = {
  containerd: {
    name: 'containerd',
    sources: [folderOf('containerd')],
    cost: 'about 2 minutes of CPU',
    async build(folder: string): Promise<void> {
      const module = 'github.com/containerd/containerd/v2';
      const version = await goModuleVersion(folderOf('containerd'), module);
      const set = { [`${module}/version.Version`]: version };
      const tags = ['no_btrfs', 'no_devmapper', 'no_zfs', 'no_tracing'];
      for (const program of ['containerd', 'containerd-shim-runc-v2', 'ctr']) {
        const source = `${module}/cmd/${program}`;
        await goBuildStatic(folderOf('containerd'), source, join(folder, program), set, { tags });
      }
    },
  },
  runc: {
    name: 'runc',
    sources: [folderOf('runc')],
    cost: 'about 20 s of CPU',
    async build(folder: string): Promise<void> {
      await debianPackages(BUILD_PACKAGES, SKIP);
      const module = 'github.com/opencontainers/runc';
      const version = await goModuleVersion(folderOf('runc'), module);
      const set = { 'main.version': version.replace('v', '') };
      await goBuildStatic(folderOf('runc'), module, join(folder, 'runc'), set, {
        tags: ['seccomp'],
        cgo: true,
      });
    },
  },
  cni: {
    name: 'cni',
    sources: [folderOf('cni')],
    cost: 'about 10 s of CPU',
    async build(folder: string): Promise<void> {
      for (const plugin of CNI_PLUGINS) {
        const source = `github.com/containernetworking/plugins/plugins/${plugin}`;
        await goBuildStatic(folderOf('cni'), source, join(folder, plugin.split('/')[1] ?? ''));
      }
    },
  },
  pause: {
    name: 'pause',
    sources: [folderOf('pause')],
    cost: 'a moment',
    async build(folder: string): Promise<void> {
      await debianPackages(BUILD_PACKAGES, SKIP);
      const args = ['-static', '-O2', '-s', '-o', join(folder, 'pause'), join(folderOf('pause'), 'pause.c')];
      await run('gcc', args, { why: 'a C compiler and a static C library', skip: SKIP });
    },
  },
  coredns: {
    name: 'coredns',
    sources: [folderOf('coredns')],
    cost: 'about 2 minutes of CPU',
    build: (folder: string) => goBuildStatic(folderOf('coredns'), '.', join(folder, 'coredns')),
  },
  helm: {
    name: 'helm',
    sources: [folderOf('helm')],
    cost: 'about 2 minutes of CPU',
    async build(folder: string): Promise<void> {
      const module = 'helm.sh/helm/v3';
      const version = await goModuleVersion(folderOf('helm'), module);
      const set = { [`${module}/internal/version.version`]: version };
      await goBuildStatic(folderOf('helm'), `${module}/cmd/helm`, join(folder, 'helm'), set);
    },
  },
} satisfies Record<string, Part>;

/** Folders and files of what a node runs. */
export interface NodePrograms {
  /** Has containerd, containerd-shim-runc-v2 and ctr. */
  readonly containerd: string;
  readonly runc: string;
  /** The folder of the network plugins. */
  readonly cni: string;
  readonly pause: string;
  readonly coredns: string;
  readonly busybox: string;
}

/** Builds what is not there yet, and installs the Debian packages that a node runs with. */
export async function nodePrograms(): Promise<NodePrograms> {
  await debianPackages(RUNTIME_PACKAGES, SKIP);
  return {
    containerd: await built(nodeParts.containerd),
    runc: join(await built(nodeParts.runc), 'runc'),
    cni: await built(nodeParts.cni),
    pause: join(await built(nodeParts.pause), 'pause'),
    coredns: join(await built(nodeParts.coredns), 'coredns'),
    busybox: '/bin/busybox',
  };
}

/** helm: its path. */
export async function helm(): Promise<string> {
  return join(await built(nodeParts.helm), 'helm');
}
