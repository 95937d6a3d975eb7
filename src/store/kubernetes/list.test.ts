import { describe, expect, it } from '@jest/globals';
import { ApiError } from './api-error.js';
import type { ApiRequest } from './api.js';
import { listAll } from './list.js';

/** An API server with so many pods, that answers a page of at most so many. */
function server(pods: number, most = Infinity) {
  const asked: Readonly<Record<string, string>>[] = [];
  return {
    asked,
    send({ query = {} }: ApiRequest): Promise<unknown> {
      asked.push(query);
      const limit = Number(query['limit']);
      const from = Number(query['continue'] ?? 0);
      if (Math.min(limit, pods - from) > most)
        return Promise.reject(new ApiError('ApiAnswerUnusable', 'the answer is too long'));
      const items = Array.from({ length: Math.min(limit, pods - from) }, (_, at) => ({
        metadata: { name: `pod-${from + at}`, uid: `u${from + at}`, resourceVersion: '5' },
      }));
      const next = from + limit;
      return Promise.resolve({
        ...{ kind: 'PodList', apiVersion: 'v1', items: pods === 0 ? null : items },
        metadata: { resourceVersion: '42', ...(next < pods ? { continue: String(next) } : {}) },
      });
    },
  };
}

const read = (api: ReturnType<typeof server>) =>
  listAll(api, '/api/v1/pods', { query: {} }, (object) => object, new AbortController().signal);

describe('a list', () => {
  it.each([0, 1, 499, 500, 501, 1700])('of %d objects is read in pages, each object once', async (count) => {
    const api = server(count);
    const { objects, version } = await read(api);
    expect(objects.map(({ metadata }) => metadata.name)).toEqual(
      Array.from({ length: count }, (_, at) => `pod-${at}`),
    );
    expect(version).toBe('42');
    expect(api.asked).toHaveLength(Math.max(1, Math.ceil(count / 500)));
  });

  it('gives each object its own kind and nothing else of the page', async () => {
    const { objects } = await read(server(2));
    expect(objects[1]).toEqual({
      ...{ apiVersion: 'v1', kind: 'Pod' },
      metadata: { name: 'pod-1', uid: 'u1', resourceVersion: '5' },
    });
  });

  it('asks for smaller pages when one is too long, and gives up when even one object is', async () => {
    const api = server(1000, 10);
    expect((await read(api)).objects).toHaveLength(1000);
    await expect(read(server(3, 0))).rejects.toMatchObject({ code: 'ApiAnswerUnusable' });
  });

  it.each([[{ kind: 'Status' }], [{}], [{ kind: 'PodList', apiVersion: 'v1', metadata: {} }]])(
    'is no list: %j',
    async (answer) => {
      const api = { ...server(0), send: () => Promise.resolve(answer) };
      await expect(read(api)).rejects.toMatchObject({ code: 'ApiAnswerUnusable' });
    },
  );
});
