import type { KubernetesApi } from './api.js';
import { ApiError } from './api-error.js';
import { objectOf, type ApiObject } from './watch.js';

const PAGE = 500;

/**
 * Reads all objects in pages of one consistent state, trimming each page before the next is asked for. Objects so large
 * that a page of them does not fit are asked for in smaller pages.
 *
 * @throws ApiError, `ApiGone` when a continuation has become too old: begin anew
 */
export async function listAll(
  api: Pick<KubernetesApi, 'send'>,
  path: string,
  selection: { readonly query: Readonly<Record<string, string>>; readonly accept?: string },
  trim: (object: ApiObject) => ApiObject,
  signal: AbortSignal,
): Promise<{ readonly objects: readonly ApiObject[]; readonly version: string }> {
  const objects: ApiObject[] = [];
  let next: string | undefined;
  let limit = PAGE;
  for (;;) {
    const query = {
      ...selection.query,
      limit: String(limit),
      ...(next === undefined ? {} : { continue: next }),
    };
    let page: Page;
    try {
      const accept = selection.accept === undefined ? {} : { accept: selection.accept };
      page = pageOf(await api.send({ method: 'GET', path, query, signal, ...accept }), path);
    } catch (thrown) {
      if (ApiError.from(thrown).code !== 'ApiAnswerUnusable' || limit === 1) throw thrown;
      limit = Math.max(1, Math.floor(limit / 8));
      continue;
    }
    for (const item of page.items) {
      const object = objectOf(item, page);
      if (object !== undefined) objects.push(trim(object));
    }
    next = page.next;
    if (next === undefined) return { objects, version: page.version };
  }
}

interface Page {
  readonly items: readonly unknown[];
  readonly version: string;
  readonly next: string | undefined;
  /** Of the items, which do not say it in a list. */
  readonly apiVersion: string;
  readonly kind: string;
}

function pageOf(answer: unknown, path: string): Page {
  const { items, metadata, kind, apiVersion } = answer as {
    readonly items?: unknown;
    readonly metadata?: { readonly resourceVersion?: unknown; readonly continue?: unknown };
    readonly kind?: unknown;
    readonly apiVersion?: unknown;
  };
  const version = metadata?.resourceVersion;
  if (
    typeof kind !== 'string' ||
    typeof apiVersion !== 'string' ||
    typeof version !== 'string' ||
    version === ''
  )
    throw new ApiError('ApiAnswerUnusable', `GET ${path}: the answer is no list`);
  const next = metadata?.continue;
  return {
    // A list of nothing may be null.
    items: Array.isArray(items) ? items : [],
    version,
    next: typeof next === 'string' && next !== '' ? next : undefined,
    apiVersion,
    kind: kind.replace(/List$/, ''),
  };
}
