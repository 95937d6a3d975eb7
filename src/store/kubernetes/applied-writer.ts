import type { Logger } from '../../lib/logger.js';
import { ApiError } from './api-error.js';
import {
  appliedHash,
  idOf,
  isAppliedBy,
  isAsApplied,
  isEdited,
  ownerOf,
  replacementOf,
  type DesiredObject,
} from './applied-content.js';
import type { AppliedMirror, MirroredObject } from './applied-mirror.js';
import { failure, type ApplyFailure } from './applied-report.js';
import type { Discovery } from './discovery.js';
import { keyOf } from './kind-table.js';
import { isOfOlderCrd, type ObjectWriter } from './object-writer.js';
import { missingRule } from './rbac.js';
import type { ResourceType } from './resource-type.js';
import type { ApiObject } from './watch.js';

/** What must be allowed on the kinds of a set. */
export const VERBS: readonly string[] = ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete'];

/** What became of one object. */
export type ApplyOutcome = 'applied' | 'removed' | 'unchanged' | ApplyFailure;

/** An object that is as it gets in spite of our writing, until somebody changes it or something else is wanted. */
interface Settled {
  readonly version: string;
  readonly hash: string | undefined;
}

/** What a writer of a set's objects is made of. */
interface AppliedWriterOptions {
  readonly writer: Pick<ObjectWriter, 'apply' | 'get' | 'replace' | 'remove'>;
  readonly fieldManager: string;
  readonly discovery: Pick<Discovery, 'refresh'>;
  readonly set: string;
  readonly logger: Logger;
}

/** Writes the objects of a set, one at a time each. Never rejects. */
export class AppliedWriter {
  readonly #options: AppliedWriterOptions;
  /** Objects that the API server keeps otherwise than we want, e.g. since a webhook changes them; by id. */
  readonly #settled = new Map<string, Settled>();

  constructor(options: AppliedWriterOptions) {
    this.#options = options;
  }

  isSettled(id: string, { metadata }: ApiObject): boolean {
    return this.#settled.get(id)?.version === metadata.resourceVersion;
  }

  /** Makes the object be there as it is wanted; writes only if it is not. */
  async bring(type: ResourceType, mirror: AppliedMirror, wanted: DesiredObject): Promise<ApplyOutcome> {
    const { writer } = this.#options;
    const key = keyOf({ metadata: wanted.metadata as ApiObject['metadata'] });
    const id = idOf(type, key);
    try {
      const present = mirror.get(key)?.object ?? (await this.#find(type, wanted));
      if (present === 'foreign')
        return failure(
          id,
          'NotOurs',
          'an object of this name exists that Signet has not made; delete or rename it',
          false,
        );
      if (present?.metadata.deletionTimestamp !== undefined)
        return failure(id, 'BeingDeleted', 'the object is being deleted', false);
      if (present !== undefined && this.#isGood(id, present, mirror.get(key), wanted)) return 'unchanged';
      const { uid } = present?.metadata ?? {};
      const metadata = { ...wanted.metadata, ...(uid === undefined ? {} : { uid }) };
      let now = await writer.apply(type, { ...wanted, metadata });
      mirror.wrote(now);
      if (isEdited(now, this.#options.fieldManager)) {
        // Others' fields survive an apply: only the whole object takes them away.
        now = await writer.replace(type, replacementOf(now, wanted));
        mirror.wrote(now);
      }
      this.#settle(id, now, wanted);
      return 'applied';
    } catch (thrown) {
      return this.#failureOf(thrown, type, id);
    }
  }

  /** Deletes the object, if it still is what was seen. */
  async remove(
    type: ResourceType,
    mirror: AppliedMirror,
    key: string,
    { object }: MirroredObject,
  ): Promise<ApplyOutcome> {
    const { name, namespace = '', uid, resourceVersion } = object.metadata;
    const id = idOf(type, key);
    try {
      await this.#options.writer.remove(type, { namespace, name }, uid, resourceVersion);
      mirror.deleted(key, uid);
      this.#settled.delete(id);
      return 'removed';
    } catch (thrown) {
      return this.#failureOf(thrown, type, id);
    }
  }

  /** An object that the watch has not shown: just made, or not ours. */
  async #find(type: ResourceType, { metadata }: DesiredObject): Promise<ApiObject | 'foreign' | undefined> {
    const { writer, fieldManager, set } = this.#options;
    try {
      const found = await writer.get(type, { namespace: metadata.namespace ?? '', name: metadata.name });
      // Its labels may have been taken away: who applied it is written in its managed fields.
      return ownerOf(found, set) !== undefined || isAppliedBy(found, fieldManager) ? found : 'foreign';
    } catch (thrown) {
      if (ApiError.from(thrown).code === 'ApiNotFound') return undefined;
      throw thrown;
    }
  }

  #isGood(
    id: string,
    present: ApiObject,
    mirrored: MirroredObject | undefined,
    wanted: DesiredObject,
  ): boolean {
    if (mirrored === undefined) return false;
    const settled = this.#settled.get(id);
    const known =
      settled?.version === present.metadata.resourceVersion && settled.hash === appliedHash(wanted);
    return known || isAsApplied(present, mirrored.edited, wanted);
  }

  #settle(id: string, now: ApiObject, wanted: DesiredObject): void {
    const { fieldManager, logger } = this.#options;
    if (isAsApplied(now, isEdited(now, fieldManager), wanted)) {
      this.#settled.delete(id);
      return;
    }
    if (!this.#settled.has(id))
      logger.warn('the API server keeps an object otherwise than it was written; it stays so', {
        object: id,
      });
    this.#settled.set(id, { version: now.metadata.resourceVersion, hash: appliedHash(wanted) });
  }

  #failureOf(thrown: unknown, type: ResourceType, id: string): ApplyFailure {
    const error = ApiError.from(thrown);
    const { code, message } = error;
    if (isOfOlderCrd(error)) return failure(id, 'Refused', message, false);
    if (message.includes('is being terminated') || /namespaces "[^"]*" not found/.test(message))
      return failure(id, 'NamespaceGone', message, false);
    if (code === 'ApiNotFound') {
      this.#options.discovery.refresh();
      return failure(id, 'NotServed', message, false);
    }
    if (code === 'ApiForbidden') {
      const help = missingRule(type, VERBS);
      return failure(id, 'Forbidden', `${help} (${message})`, true);
    }
    return code === 'ApiInvalid'
      ? failure(id, 'Refused', message, false)
      : failure(id, 'Failed', message, true);
  }
}
