import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { csiSockets } from '../../src/agent/csi/serve.js';
import { csiSanity, isSkipped, rigTimeout } from '../rig/rig.js';
import { startCsiNode, type CsiNode } from './support/csi-node.js';

/**
 * What csi-sanity tests of a driver that has ephemeral volumes alone: how it answers the Identity service, says what it is,
 * and refuses requests that lack a field. The rest makes volumes with a controller first, which there is none of here, or
 * is of calls that the driver does not have; csi-driver.test.ts publishes in the kubelet's way instead.
 */
const APPLIES = [
  'Identity Service GetPluginCapabilities should return appropriate capabilities',
  'Identity Service Probe should return appropriate information',
  'Identity Service GetPluginInfo should return appropriate information',
  'Node Service NodeGetCapabilities should return appropriate capabilities',
  'Node Service NodeGetInfo should return appropriate values',
  'Node Service NodePublishVolume should fail when no volume id is provided',
  'Node Service NodePublishVolume should fail when no target path is provided',
  'Node Service NodePublishVolume should fail when no volume capability is provided',
  'Node Service NodeUnpublishVolume should fail when no volume id is provided',
  'Node Service NodeUnpublishVolume should fail when no target path is provided',
  'Node Service NodeGetVolumeStats should fail when no volume id is provided',
  'Node Service NodeGetVolumeStats should fail when no volume path is provided',
  'Node Service NodeGetVolumeStats should fail when volume is not found',
  'Node Service NodeGetVolumeHealth should fail when no volume id is provided',
];

/** They make a volume with the controller first. What they are about, csi-driver.test.ts holds the driver to. */
const NEEDS_A_CONTROLLER = [
  'Controller Server',
  'NodeUnpublishVolume should remove target path',
  'NodeGetVolumeStats should fail when volume does not exist on the specified path',
  'NodeGetVolumeHealth should return health for a valid volume',
];

(isSkipped('csi-sanity') ? describe.skip : describe)('csi-sanity', () => {
  let node: CsiNode;
  let program: string;
  beforeAll(async () => {
    program = await csiSanity();
    node = await startCsiNode();
    await node.start();
  }, rigTimeout);
  afterAll(() => node.close());

  it('finds nothing wrong with the driver', async () => {
    const report = join(node.directory, 'junit.xml');
    const child = spawn(
      program,
      [
        `--csi.endpoint=${csiSockets(node.kubelet).driver}`,
        `--csi.mountdir=${join(node.directory, 'target')}`,
        `--csi.junitfile=${report}`,
        '--ginkgo.no-color',
        '--ginkgo.focus=(Identity|Node) Service',
        `--ginkgo.skip=${NEEDS_A_CONTROLLER.join('|')}`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (part: Buffer) => (text += part.toString()));
    const [code] = (await once(child, 'close')) as [number];
    const cases = [
      ...(await readFile(report, 'utf8')).matchAll(/<testcase name="([^"]*)"[^>]*?status="(\w+)"/g),
    ];
    const passed = cases.flatMap(([, name = '', status]) =>
      status === 'passed'
        ? [name.replace(/^\[\w+\] (?:\w+ )*?(?=(?:Identity|Node) Service)/, '').replace(/ \[.*$/, '')]
        : [],
    );
    expect({
      code,
      failed: cases.filter(([, , status]) => status === 'failed'),
      text: code === 0 ? '' : text,
    }).toEqual({ code: 0, failed: [], text: '' });
    expect(passed.filter((name) => /^(?:Identity|Node) Service/.test(name)).sort()).toEqual(
      [...APPLIES].sort(),
    );
  }, 120_000);
});
