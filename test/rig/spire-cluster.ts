/**
 * SPIRE in a cluster, as its documentation installs it: server with controller manager, agent with a CSI driver. Its peer is
 * Signet's chart; see {@link startSpire} for SPIRE without any cluster.
 */
import { readFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { built } from './cache.js';
import { writeProgramImage } from './images.js';
import type { Cluster } from './node.js';
import { spireParts } from './spire.js';
import { spireManifests, type SpireIntervals } from './spire-manifests.js';

/** What pods mount: the driver of the volume, and the socket's name in it. */
export const SPIRE_VOLUME = { driver: 'csi.spiffe.io', socket: 'api.sock' } as const;

/** Of pods with this label, each has an SVID of its own. */
export interface SpireWanted extends SpireIntervals {
  readonly trustDomain: string;
  readonly app: string;
}

/** Builds SPIRE's images where they are not there, and gives them to the node. */
export async function loadSpire(cluster: Cluster): Promise<void> {
  const programs = await built(spireParts.spire);
  const beside = await built(spireParts['spire-cluster']);
  const folder = await mkdtemp(join(tmpdir(), 'spire-images-'));
  try {
    for (const program of [
      ...['spire-server', 'spire-agent'].map((name) => join(programs, name)),
      ...['spire-csi', 'spire-controller-manager'].map((name) => join(beside, name)),
    ]) {
      const name = program.slice(program.lastIndexOf('/') + 1);
      const file = join(folder, `${name}.tar`);
      writeProgramImage(file, `rig.local/${name}:test`, program);
      await cluster.loadImage(file);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Installs it, or changes what is there, and waits until it serves. */
export async function installSpire(cluster: Cluster, wanted: SpireWanted): Promise<void> {
  const kubectl = async (args: readonly string[], stdin = ''): Promise<void> => {
    const { code, stdout, stderr } = await cluster.kubectl(args, { stdin });
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')} ended with ${code}: ${stderr}${stdout}`);
  };
  const crds = await readFile(join(await built(spireParts['spire-cluster']), 'crds.yaml'), 'utf8');
  await kubectl(['apply', '-f', '-'], crds);
  await kubectl(['wait', '--for=condition=Established', '--timeout=60s', '-f', '-'], crds);
  const items = spireManifests(wanted);
  await kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  for (const what of ['deployment/spire-server', 'daemonset/spire-agent'])
    await kubectl(['rollout', 'status', what, '--namespace=spire', '--timeout=120s']);
}
