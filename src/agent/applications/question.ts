import type { ApplicationRequest, Entity } from '../../access/policy/model.js';
import { isRecord, shown } from '../../access/policy/read.js';
import { StatusError } from '../../rpc/service.js';

/** What an application asks (AuthZEN Authorization API 1.0 §5): may this subject do this to that. */
export interface Question {
  readonly subject: Entity;
  readonly action: ApplicationRequest['action'];
  readonly resource: Entity;
  readonly context: Fields | undefined;
}

export type Fields = Readonly<Record<string, unknown>>;

/** Names the field that is wrong, what is wrong, and the fix. */
export function invalid(field: string, message: string): never {
  throw new StatusError('InvalidArgument', `${field} ${message}`);
}

/** Reads a question; `at` stands before the names of its fields. Unknown fields do not matter (§10.1.1). */
export function readQuestion(body: Fields, at = ''): Question {
  return {
    subject: readEntity(body['subject'], `${at}subject`),
    action: readAction(body['action'], `${at}action`),
    resource: readEntity(body['resource'], `${at}resource`),
    context: readObject(body['context'], `${at}context`),
  };
}

/** Subject or resource: type, id, properties. */
export function readEntity(value: unknown, field: string): Entity {
  const { type, properties, object } = readKind(value, field);
  const id = readName(object['id'], `${field}.id`);
  return { type, id, ...(properties === undefined ? {} : { properties }) };
}

/** The same without an id, which is what a search looks for; one that is there does not matter (§8.4.1). */
export function readKind(
  value: unknown,
  field: string,
): { readonly type: string; readonly properties: Fields | undefined; readonly object: Fields } {
  const object = readObject(value, field) ?? missing(field);
  return {
    type: readName(object['type'], `${field}.type`),
    properties: readObject(object['properties'], `${field}.properties`),
    object,
  };
}

export function readAction(value: unknown, field: string): ApplicationRequest['action'] {
  const object = readObject(value, field) ?? missing(field);
  const name = readName(object['name'], `${field}.name`);
  const properties = readObject(object['properties'], `${field}.properties`);
  return { name, ...(properties === undefined ? {} : { properties }) };
}

/** An object; undefined when it is not there, or null. */
export function readObject(value: unknown, field: string): Fields | undefined {
  if (value === undefined || value === null) return undefined;
  return isRecord(value) ? value : invalid(field, `must be an object, and is ${shown(value)}`);
}

function readName(value: unknown, field: string): string {
  if (value === undefined) return missing(field);
  return typeof value === 'string' && value !== ''
    ? value
    : invalid(field, `must be a text that is not empty, and is ${shown(value)}`);
}

function missing(field: string): never {
  return invalid(field, 'is missing');
}
