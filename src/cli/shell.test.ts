import { expect, it } from '@jest/globals';
import { FakeWorkloadApi } from '../../test/support/fake-workload-api.js';
import { systemClock } from '../lib/clock.js';
import { StatusError } from '../rpc/service.js';
import { buildProgram, runProgram } from './program.js';

async function run(...argv: readonly string[]): Promise<{ readonly code: number; readonly err: string }> {
  let err = '';
  const io = {
    ...{ clock: systemClock, environment: {}, signal: new AbortController().signal },
    stdout: () => undefined,
    stderr: (text: string) => void (err += text),
  };
  return { code: await runProgram(buildProgram(io, 'test'), argv, io), err };
}

it('says how the server calls a call that failed, and nothing of the sort where there was no call', async () => {
  const api = await FakeWorkloadApi.start(
    new StatusError('PermissionDenied', 'no identity is issued to you'),
  );
  try {
    const { code, err } = await run('svid', 'fetch', '--socket', api.address);
    expect(code).toBe(3);
    expect(err).toMatch(/^error: .*no identity is issued to you \[\w+\] \(request [0-9a-f]{16}\)\n$/);
  } finally {
    await api.stop();
  }
  const { code, err } = await run('svid', 'show', '/nowhere.pem');
  expect(code).toBe(3);
  expect(err).toMatch(/\/nowhere\.pem/);
  expect(err).not.toContain('request');
});
