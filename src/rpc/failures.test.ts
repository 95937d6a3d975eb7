import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger, type RecordingLogger } from '../../test/support/recording-logger.js';
import { rpcFixture } from '../../test/support/rpc-fixture.js';
import { systemRandom } from '../lib/random.js';
import { RpcError } from './client.js';
import type { FailedCall } from './failure-log.js';
import { CallFailures } from './failures.js';
import { HealthService } from './gen/grpc/health/v1/health.js';
import { callLogger, isRequestId, REQUEST_ID, RequestIds } from './request-id.js';
import { StatusError } from './service.js';

const { serverWith, listen, dial } = rpcFixture();

/** The fields of all lines with this message. */
const fieldsOf = ({ all }: RecordingLogger, message: string): readonly Readonly<Record<string, unknown>>[] =>
  all.flatMap((line) => {
    const before = `info ${message} `;
    return line.startsWith(before)
      ? [JSON.parse(line.slice(before.length)) as Readonly<Record<string, unknown>>]
      : [];
  });

const callOf = (requestId = 'r1'): FailedCall => ({
  peer: { listener: 'shared', connectionId: 'c' },
  path: '/a.B/C',
  requestId,
});

describe('a call that fails', () => {
  it('has one name in the log and in what its caller is told: its own, or a new one each time', async () => {
    const logger = recordingLogger();
    const server = serverWith({ logger });
    server.service(HealthService, {
      check: () => Promise.reject(new StatusError('PermissionDenied', 'not you', { code: 'NotYou' })),
      watch: () => Promise.reject(new Error('a secret of ours')),
    });
    await listen(server);
    const connection = dial();
    const failed = async (act: () => Promise<unknown>): Promise<RpcError> => {
      const error = await act().catch((thrown: unknown) => thrown);
      if (error instanceof RpcError) return error;
      throw new Error('the call did not fail');
    };
    const check = (metadata: Readonly<Record<string, string>> = {}): Promise<RpcError> =>
      failed(() => connection.health().check({ service: '' }, { metadata }));
    const [first, second] = [await check(), await check()];
    const named = await check({ [REQUEST_ID]: 'build-7.a_b' });
    const odd = await check({ [REQUEST_ID]: 'two words' });
    expect(named).toMatchObject({ status: 'PermissionDenied', message: 'not you', requestId: 'build-7.a_b' });
    expect(new Set([first, second, named, odd].map(({ requestId }) => requestId)).size).toBe(4);
    expect(fieldsOf(logger, 'a call failed')).toEqual(
      [first, second, named, odd].map(({ requestId }) => ({
        ...{ requestId, status: 'PermissionDenied', code: 'NotYou', reason: 'not you' },
        ...{ method: '/grpc.health.v1.Health/Check', listener: 'shared', peer: 'shared' },
      })),
    );
    const broken = await failed(async () => {
      for await (const { status } of connection.health().watch({ service: '' }))
        throw new Error(`it said ${status}`);
    });
    expect(broken.message).toBe('internal error');
    const line = logger.all.find((one) => one.includes('a secret of ours'));
    expect(line).toContain(`error a handler failed {"requestId":"${broken.requestId}"`);
  });
});

describe('the log of failures', () => {
  it('is bounded, and says how many it left out', async () => {
    const clock = new FakeClock();
    const logger = recordingLogger();
    const failures = new CallFailures(clock, logger);
    const refuse = (): unknown => failures.status(new StatusError('PermissionDenied', 'no'), callOf());
    for (let at = 0; at < 1_000; at++) refuse();
    expect(logger.all).toHaveLength(100);
    await clock.advance(1_000);
    refuse();
    expect(fieldsOf(logger, 'a call failed').at(-1)).toMatchObject({ unlogged: 900 });
  });

  it('leaves out clients that went and servers that stop, and tells of what took too long', () => {
    const logger = recordingLogger();
    const failures = new CallFailures(new FakeClock(), logger);
    failures.status(new StatusError('Cancelled', 'gone'), callOf());
    failures.status(new StatusError('Unavailable', 'stopping', { code: 'ServerStopping' }), callOf());
    failures.ended(new StatusError('Unavailable', 'the connection is closing'), callOf());
    expect(logger.all).toEqual([]);
    failures.ended(new StatusError('DeadlineExceeded', 'slow'), callOf('x'));
    expect(fieldsOf(logger, 'a call failed')).toMatchObject([{ requestId: 'x' }]);
  });

  it('has no name in it that a caller could forge a line with', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (given) => {
        const id = new RequestIds(systemRandom).of(given);
        return isRequestId(id) && (id === given) === /^[\w.-]{1,64}$/.test(given);
      }),
    );
  });
});

describe('the name of a call', () => {
  it('is what its handler is told, and its own lines carry, as the line of its failure does', async () => {
    const logger = recordingLogger();
    const server = serverWith({ logger });
    server.service(HealthService, {
      check: (_, context) => {
        callLogger(logger, context).info('a line of its own', { of: 'the handler' });
        return Promise.reject(new StatusError('NotFound', 'no'));
      },
    });
    await listen(server);
    const ask = (metadata: Readonly<Record<string, string>>): Promise<unknown> =>
      dial()
        .health()
        .check({ service: '' }, { metadata })
        .catch((thrown: unknown) => thrown);
    expect(await ask({ [REQUEST_ID]: 'mine' })).toMatchObject({ requestId: 'mine' });
    const { requestId } = (await ask({})) as RpcError;
    expect(requestId).toMatch(/^[0-9a-f]{16}$/);
    for (const message of ['a line of its own', 'a call failed'])
      expect(fieldsOf(logger, message).map((fields) => fields['requestId'])).toEqual(['mine', requestId]);
    expect(fieldsOf(logger, 'a line of its own')[0]).toEqual({ of: 'the handler', requestId: 'mine' });
  });

  it('is not made before there is a line, and does not come twice', () => {
    let read = 0;
    const call = {
      get requestId() {
        read += 1;
        return 'r';
      },
    };
    const logger = recordingLogger();
    const made = callLogger(logger, call).child({ component: 'x' });
    expect(read).toBe(0);
    made.warn('now');
    expect([read, logger.all]).toEqual([1, ['warn now {"requestId":"r"}']]);
    const ids = new RequestIds(systemRandom);
    const names = Array.from({ length: 1_000 }, () => ids.next());
    expect(new Set(names).size).toBe(1_000);
    expect(names.every(isRequestId)).toBe(true);
  });
});
