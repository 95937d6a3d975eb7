import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger, type RecordingLogger } from '../../test/support/recording-logger.js';
import { rpcFixture } from '../../test/support/rpc-fixture.js';
import { systemRandom } from '../lib/random.js';
import { RpcError } from './client.js';
import { CallFailures, isRequestId, REQUEST_ID, type FailedCall } from './failures.js';
import { HealthService } from './gen/grpc/health/v1/health.js';
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

const callOf = (requestId?: string): FailedCall => ({
  peer: { listener: 'shared', connectionId: 'c' },
  path: '/a.B/C',
  metadata: (key) => (key === REQUEST_ID ? requestId : undefined),
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
    const failures = new CallFailures(clock, systemRandom, logger);
    const refuse = (): unknown => failures.status(new StatusError('PermissionDenied', 'no'), callOf());
    for (let at = 0; at < 1_000; at++) refuse();
    expect(logger.all).toHaveLength(100);
    await clock.advance(1_000);
    refuse();
    expect(fieldsOf(logger, 'a call failed').at(-1)).toMatchObject({ unlogged: 900 });
  });

  it('leaves out clients that went and servers that stop, and tells of what took too long', () => {
    const logger = recordingLogger();
    const failures = new CallFailures(new FakeClock(), systemRandom, logger);
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
        const logger = recordingLogger();
        new CallFailures(new FakeClock(), systemRandom, logger).status(
          new StatusError('NotFound', 'no'),
          callOf(given),
        );
        const id = fieldsOf(logger, 'a call failed')[0]?.['requestId'];
        return isRequestId(id) && (id === given) === /^[\w.-]{1,64}$/.test(given);
      }),
    );
  });
});
