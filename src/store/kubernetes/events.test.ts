import { describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { recordingLogger, type RecordingLogger } from '../../../test/support/recording-logger.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { ApiError } from './api-error.js';
import type { ApiRequest } from './api.js';
import { createEventRecorder, type KubernetesEvents, type RecordedEvent } from './events.js';

/** A recorder whose requests a test answers. */
interface World {
  readonly clock: FakeClock;
  readonly log: RecordingLogger;
  readonly events: KubernetesEvents;
  readonly sent: ApiRequest[];
  answer: (request: ApiRequest) => Promise<unknown>;
}

function newWorld(): World {
  const clock = new FakeClock();
  const log = recordingLogger();
  const sent: ApiRequest[] = [];
  const world: World = {
    ...{ clock, log, sent, answer: () => Promise.resolve({}) },
    events: createEventRecorder({
      api: {
        send(request) {
          sent.push(request);
          return world.answer(request);
        },
      },
      ...{ controller: 'signet.dev/test', instance: 'here', clock, random: seededRandom(), logger: log },
    }),
  };
  return world;
}

function event(name: string, note = 'it is so', kind = 'AccessPolicy'): RecordedEvent {
  return {
    regarding: { apiVersion: 'signet.dev/v1alpha1', kind, namespace: 'shop', name, uid: `uid-${name}` },
    ...{ type: 'Normal', reason: 'Rendered', action: 'Render', note },
  };
}

describe('events', () => {
  it('tells an event at once, and counts the same one again into it, now and then', async () => {
    const { clock, events, sent } = newWorld();
    events.record(event('web'));
    await settle();
    expect(sent).toMatchObject([
      {
        method: 'POST',
        path: '/apis/events.k8s.io/v1/namespaces/shop/events',
        body: { reason: 'Rendered', note: 'it is so', eventTime: '2026-01-01T00:00:00.000000Z' },
      },
    ]);
    const { metadata } = sent[0]?.body as { readonly metadata: { readonly name: string } };
    for (let times = 0; times < 1000; times++) events.record(event('web'));
    await settle();
    expect(sent).toHaveLength(1);
    await clock.advance(30_000);
    expect(sent[1]).toMatchObject({
      method: 'PATCH',
      path: `/apis/events.k8s.io/v1/namespaces/shop/events/${metadata.name}`,
      body: { series: { count: 1001 } },
    });
    await clock.advance(60 * 60_000);
    expect(sent).toHaveLength(2);
    events.record(event('web'));
    await settle();
    expect(sent[2]).toMatchObject({ method: 'POST' });
  });

  it('lets one object say ten things at once and then one a minute; another object is not held back', async () => {
    const { clock, events, sent } = newWorld();
    for (let one = 0; one < 1000; one++) events.record(event('loud', `note ${one}`));
    events.record(event('quiet'));
    await settle();
    expect(sent).toHaveLength(11);
    expect(events.lost).toBe(990);
    await clock.advance(60_000);
    events.record(event('loud', 'later'));
    events.record(event('loud', 'too soon'));
    await settle();
    expect(sent).toHaveLength(12);
  });

  it('keeps no more than it may while the API server hangs, and never throws', async () => {
    const world = newWorld();
    const { events, sent, clock } = world;
    world.answer = () => new Promise(() => undefined);
    for (let one = 0; one < 100_000; one++) events.record(event(`pod-${one}`));
    await settle();
    expect(sent).toHaveLength(1);
    // 500 wait and one is sent.
    expect(events.lost).toBe(100_000 - 501);
    expect(clock.timers).toBe(0);
  });

  it('says once that events are refused and what to add, and goes on', async () => {
    const world = newWorld();
    const { events, log, sent } = world;
    world.answer = () => Promise.reject(new ApiError('ApiForbidden', 'events.events.k8s.io is forbidden'));
    for (let one = 0; one < 5; one++) events.record(event(`pod-${one}`));
    await settle();
    expect(log.lines).toEqual([
      'warn events cannot be written; they are lost; add to Signet\'s ClusterRole: {apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"]}',
    ]);
    expect(sent).toHaveLength(5);
    world.answer = () => Promise.resolve({});
    events.record(event('later'));
    await settle();
    expect(events.lost).toBe(5);
  });

  it('makes a new event of one that the API server has forgotten', async () => {
    const world = newWorld();
    const { events, sent, clock } = world;
    events.record(event('web'));
    await settle();
    world.answer = () => Promise.reject(new ApiError('ApiNotFound', 'no such event'));
    events.record(event('web'));
    await clock.advance(30_000);
    world.answer = () => Promise.resolve({});
    events.record(event('web'));
    await settle();
    expect(sent.map(({ method }) => method)).toEqual(['POST', 'PATCH', 'POST']);
  });

  it('cuts what is too long between characters', async () => {
    const { events, sent } = newWorld();
    events.record(event('n'.repeat(253), '€'.repeat(2000)));
    await settle();
    const body = sent[0]?.body as { readonly note: string; readonly metadata: { readonly name: string } };
    expect(Buffer.byteLength(body.note)).toBeLessThanOrEqual(1024);
    expect(body.note).toMatch(/^€{340}…$/);
    expect(body.metadata.name.length).toBeLessThanOrEqual(253);
  });

  it('drops what waits when it is closed, and takes no more', async () => {
    const world = newWorld();
    const { events, sent, clock } = world;
    let answer: (value: unknown) => void = () => undefined;
    world.answer = () => new Promise((resolve) => (answer = resolve));
    for (let one = 0; one < 5; one++) events.record(event(`pod-${one}`));
    events.record(event('pod-0'));
    const closed = events.close();
    answer({});
    await closed;
    events.record(event('late'));
    await settle();
    expect(sent).toHaveLength(1);
    expect(clock.timers).toBe(0);
  });
});
