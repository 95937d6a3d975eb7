import type { Command } from 'commander';
import { createKubernetesApi, type KubernetesApi } from '../store/kubernetes/api.js';
import { openConnection } from '../store/kubernetes/connection.js';
import { readCluster } from '../store/kubernetes/read-cluster.js';
import type { Store } from '../store/store.js';
import type { CliIo } from './io.js';

/** Which cluster is meant. */
export interface ClusterFlags {
  readonly kubeconfig?: string;
  readonly context?: string;
}

/** What findings about a cluster, where no file is, are about. */
export const CLUSTER_ROOT = '.';

/** `--kubeconfig` and `--context`, as kubectl has them. */
export function addClusterOptions(command: Command): Command {
  return command
    .option('--kubeconfig <file>', 'how the cluster is reached (default: as kubectl does)')
    .option('--context <name>', 'a context of the kubeconfig');
}

/** Uses a connection to the cluster and closes it. */
export async function withCluster<T>(
  io: CliIo,
  { kubeconfig, context }: ClusterFlags,
  use: (api: KubernetesApi) => Promise<T>,
): Promise<T> {
  const connection = await openConnection({
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  });
  const api = createKubernetesApi(connection, io.clock);
  try {
    return await use(api);
  } finally {
    api.close();
  }
}

/** Reads a cluster once. */
export function readCurrentCluster(io: CliIo, flags: ClusterFlags): Promise<Store> {
  return withCluster(io, flags, (api) => readCluster(api, io.signal));
}
