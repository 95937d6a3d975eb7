/** OPA as a server of decisions, on a unix socket. */
import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { start } from '../e2e/support/process.js';
import type { Scope } from '../e2e/support/scope.js';
import { opa } from '../rig/rig.js';
import { until } from '../support/until.js';

/** Starts `opa run --server` with a policy of package `bench` and its data; the path of its socket. The scope ends it. */
export async function startOpaServer(scope: Scope, rego: string, data: object): Promise<string> {
  const folder = scope.folder();
  const socketPath = join(folder, 'opa.sock');
  const [policy, facts] = [join(folder, 'policy.rego'), join(folder, 'data.json')];
  writeFileSync(policy, rego);
  writeFileSync(facts, JSON.stringify(data));
  const quiet = ['--log-level', 'error', '--skip-version-check'];
  const server = start(scope, [
    await opa(),
    'run',
    '--server',
    '--addr',
    `unix://${socketPath}`,
    ...quiet,
    policy,
    facts,
  ]);
  await until('OPA serves', async () => {
    if (server.hasExited()) throw new Error(`OPA ended: ${server.stderr()}`);
    return isHealthy(socketPath);
  });
  return socketPath;
}

function isHealthy(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const call = request({ socketPath, path: '/health', agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    call.on('error', () => resolve(false));
    call.end();
  });
}
