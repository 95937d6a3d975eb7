import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeApiServer } from '../../../test/support/fake-api-server.js';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { runReflector, type ReflectorStep } from './reflector.js';
import type { KubernetesApi } from './api.js';
import type { ApiObject } from './watch.js';

const THING = { kind: 'Thing', group: '', version: 'v1', plural: 'things', scope: 'Cluster' } as const;

/** A reflector of an API server that fails as it is told to. */
function newWorld(seed: number) {
  const clock = new FakeClock();
  const log = recordingLogger();
  const server = new FakeApiServer(clock, seededRandom(seed));
  const api: KubernetesApi = {
    namespace: undefined,
    send: (request) => server.send(request),
    stream: (request) => server.stream(request),
    isAlive: () => server.isAlive(),
    close: () => undefined,
  };
  const mirror = new Map<string, ApiObject>();
  const steps: ReflectorStep[] = [];
  const problems: string[] = [];
  const stop = new AbortController();
  const put = (object: ApiObject): void => {
    const known = mirror.get(object.metadata.name)?.metadata;
    const { resourceVersion } = object.metadata;
    if (known !== undefined && Number(resourceVersion) < Number(known.resourceVersion))
      problems.push(`from version ${known.resourceVersion} back to ${resourceVersion}`);
    mirror.set(object.metadata.name, object);
  };
  const running = runReflector(
    {
      ...{ api, clock, random: seededRandom(seed + 1), logger: log, type: THING },
      trim: (object) => object,
      observe: (step) => steps.push(step),
      sink: {
        replace: (objects) => {
          const names = new Set(objects.map(({ metadata }) => metadata.name));
          for (const name of mirror.keys()) if (!names.has(name)) mirror.delete(name);
          for (const object of objects) put(object);
        },
        put,
        remove: ({ metadata }) => void mirror.delete(metadata.name),
      },
    },
    stop.signal,
  );
  return {
    ...{ clock, log, server, mirror, steps, problems },
    async end() {
      stop.abort();
      await clock.advance(0);
      await running;
      expect(clock.timers).toBe(0);
    },
  };
}

const name = fc.constantFrom('a', 'b', 'c', 'd', 'e');
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('put' as const), name, value: fc.nat(9) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('remove' as const), name }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('disturb' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('compact' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('bookmark' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.nat(8_000) }) },
);

describe('a reflector', () => {
  it('has in the end what there is, whatever happened on the way, and never goes back in time', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.double({ min: 0, max: 0.8, noNaN: true }),
        fc.boolean(),
        fc.array(step, { maxLength: 60 }),
        async (seed, trouble, streams, plan) => {
          const world = newWorld(seed);
          const { server, clock, mirror } = world;
          server.trouble = trouble;
          server.streams = streams;
          for (const one of plan) {
            if (one.do === 'put') server.put(one.name, one.value);
            else if (one.do === 'remove') server.remove(one.name);
            else if (one.do === 'pass') await clock.advance(one.ms);
            else server[one.do]();
          }
          server.trouble = 0;
          // A watch that stalled is given up after 90 s; what waits, waits 12 s at most.
          for (let seconds = 0; seconds < 200; seconds += 50) {
            await clock.advance(50_000);
            server.bookmark();
          }
          expect(new Map([...mirror].sort())).toEqual(new Map([...server.objects].sort()));
          expect(world.problems).toEqual([]);
          await world.end();
        },
      ),
      { numRuns: 150 },
    );
  }, 120_000);

  it('finds back to an API server that was restored from a backup and waits for versions of long ago', async () => {
    const { server, clock, mirror, steps, end } = newWorld(1);
    await clock.advance(1_000);
    for (let value = 0; value < 20; value++) server.put('a', value);
    await clock.advance(10_000);
    server.restore();
    server.put('b', 1);
    await clock.advance(30_000);
    // It goes on from a version that is not there yet: nothing comes.
    expect([...mirror.keys()]).toEqual(['a']);
    await clock.advance(65_000);
    expect([...mirror.keys()]).toEqual(['b']);
    expect(steps.filter(({ step }) => step === 'listed')).toHaveLength(2);
    await end();
  });

  it('asks an API server that fails no more often than its back-off allows', async () => {
    const world = newWorld(1);
    world.server.trouble = 1;
    await world.clock.advance(600_000);
    const failures = world.steps.filter(({ step }) => step === 'failed').length;
    expect(failures).toBeGreaterThan(30);
    expect(failures).toBeLessThan(240);
    await world.end();
  });
});
