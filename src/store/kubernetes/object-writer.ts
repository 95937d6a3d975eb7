import type { KubernetesApi } from './api.js';
import { ApiError } from './api-error.js';
import { statusOf } from './object-status.js';
import {
  apiVersionOf,
  collectionPath,
  objectPath,
  type ObjectRef,
  type ResourceType,
} from './resource-type.js';
import { objectOf, type ApiObject } from './watch.js';

/** What is applied: all fields that are ours; `apiVersion` and `kind` are filled in. */
export interface AppliedObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    /** Where it must be this very object: `ApiConflict` when the name stands for another by now. */
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly unknown[];
  };
}

/** Of which object, and over which version of it, something is written. */
export interface Precondition {
  readonly uid: string;
  readonly resourceVersion?: string;
}

/** Writes to the API server. All methods reject with ApiError. */
export interface ObjectWriter {
  /**
   * Server-side apply: the fields said are ours, what we said before and say no more is taken away, others' fields stay.
   * Field conflicts are taken over: what is ours by name is ours.
   */
  apply(type: ResourceType, object: AppliedObject): Promise<ApiObject>;
  /**
   * The same for the status of an object that exists. `ApiConflict` when it has another uid by now, or another version
   * where one is said.
   */
  applyStatus(type: ResourceType, ref: ObjectRef, only: Precondition, status: unknown): Promise<ApiObject>;
  /**
   * Makes this the whole status of an object that has been read, also what others have written there. Fields that the CRD
   * does not know, because it is older, are left out by the API server, which refuses to apply them. `ApiConflict` when it
   * has another uid by now, or another version where one is said.
   */
  replaceStatus(
    type: ResourceType,
    object: ApiObject,
    only: Precondition,
    status: unknown,
  ): Promise<ApiObject>;
  /** `ApiNotFound` when there is none. */
  get(type: ResourceType, ref: ObjectRef): Promise<ApiObject>;
  /** `ApiConflict` when it exists already. */
  create(type: ResourceType, object: AppliedObject): Promise<ApiObject>;
  /** Writes the whole object if `metadata.resourceVersion` is still the present one; `ApiConflict` otherwise. */
  replace(type: ResourceType, object: AppliedObject & ApiObject): Promise<ApiObject>;
  /**
   * Deletes it, if it still has this uid. What is gone already is no error. With a version: `ApiConflict` when somebody
   * has changed it since.
   */
  remove(type: ResourceType, ref: ObjectRef, uid?: string, resourceVersion?: string): Promise<void>;
}

/** What a writer is made of. */
export interface ObjectWriterOptions {
  readonly api: KubernetesApi;
  /** Who manages the fields that are applied; fixed for good, or what was applied before is never taken away. */
  readonly fieldManager: string;
}

const APPLY = 'application/apply-patch+yaml';

/** Whether an apply was refused since the CRD does not know all fields of it: it is older than we are. */
export function isOfOlderCrd(error: ApiError): boolean {
  return error.message.includes('field not declared in schema');
}

export function createObjectWriter({ api, fieldManager }: ObjectWriterOptions): ObjectWriter {
  const apply = async (
    type: ResourceType,
    ref: ObjectRef,
    body: object,
    subresource?: string,
  ): Promise<ApiObject> => {
    const path = objectPath(type, ref, subresource);
    const query = { fieldManager, force: 'true' };
    // JSON is YAML.
    return written(
      await api.send({
        ...{ method: 'PATCH', path, query, contentType: APPLY },
        body: { apiVersion: apiVersionOf(type), kind: type.kind, ...body },
      }),
      path,
    );
  };
  return {
    apply: (type, object) => apply(type, refOf(object), object),
    applyStatus: (type, ref, { uid, resourceVersion }, status) =>
      apply(type, ref, { metadata: { ...metadataOf(ref), uid, resourceVersion }, status }, 'status'),
    async replaceStatus(type, object, { uid, resourceVersion }, status) {
      const path = objectPath(type, refOf(object), 'status');
      const contentType = 'application/merge-patch+json';
      // The right to patch is enough.
      const body = { metadata: { uid, resourceVersion }, status: mergePatch(statusOf(object), status) };
      return written(
        await api.send({ method: 'PATCH', path, query: { fieldManager }, contentType, body }),
        path,
      );
    },
    async get(type, ref) {
      const path = objectPath(type, ref);
      return written(await api.send({ method: 'GET', path }), path);
    },
    async create(type, object) {
      const path = collectionPath(type, object.metadata.namespace);
      const body = { apiVersion: apiVersionOf(type), kind: type.kind, ...object };
      return written(await api.send({ method: 'POST', path, query: { fieldManager }, body }), path);
    },
    async replace(type, object) {
      const path = objectPath(type, refOf(object));
      return written(await api.send({ method: 'PUT', path, query: { fieldManager }, body: object }), path);
    },
    async remove(type, ref, uid, resourceVersion) {
      const preconditions = {
        ...(uid === undefined ? {} : { uid }),
        ...(resourceVersion === undefined ? {} : { resourceVersion }),
      };
      const body = {
        kind: 'DeleteOptions',
        apiVersion: 'v1',
        propagationPolicy: 'Background',
        preconditions,
      };
      try {
        await api.send({ method: 'DELETE', path: objectPath(type, ref), body });
      } catch (thrown) {
        const { code } = ApiError.from(thrown);
        // With another uid it is another object, which nobody asked to delete.
        const another = code === 'ApiConflict' && uid !== undefined && resourceVersion === undefined;
        if (code !== 'ApiNotFound' && !another) throw thrown;
      }
    },
  };
}

/** What makes the one value the other (RFC 7396): null takes a field away. */
function mergePatch(from: unknown, to: unknown): unknown {
  if (!isFields(from) || !isFields(to)) return to;
  const gone = Object.keys(from).filter((name) => to[name] === undefined);
  return {
    ...Object.fromEntries(gone.map((name) => [name, null])),
    ...Object.fromEntries(Object.entries(to).map(([name, value]) => [name, mergePatch(from[name], value)])),
  };
}

function isFields(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refOf({ metadata }: AppliedObject): ObjectRef {
  return { namespace: metadata.namespace ?? '', name: metadata.name };
}

function metadataOf({ namespace, name }: ObjectRef): AppliedObject['metadata'] {
  return namespace === '' ? { name } : { namespace, name };
}

function written(answer: unknown, path: string): ApiObject {
  const object = objectOf(answer);
  if (object === undefined) throw new ApiError('ApiAnswerUnusable', `${path}: the answer is no object`);
  return object;
}
