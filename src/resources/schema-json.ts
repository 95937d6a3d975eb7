import type { CelRule, JsonValue, ListNode, SchemaNode, StringNode } from './schema.js';

/** A structural OpenAPI v3 schema, as a CustomResourceDefinition holds it. */
export type JsonSchema = { [key: string]: JsonValue };

/** The structural schema of a node: the same node gives the same text, key for key. */
export function toJsonSchema(node: SchemaNode): JsonSchema {
  const json: JsonSchema = {};
  if (node.description !== '') json['description'] = node.description;
  json['type'] = node.type === 'map' ? 'object' : node.type === 'list' ? 'array' : node.type;
  if (node.default !== undefined) json['default'] = node.default;
  addKeywords(json, node);
  if (node.rules !== undefined && node.rules.length > 0)
    json['x-kubernetes-validations'] = node.rules.map(ruleJson);
  return json;
}

function addKeywords(json: JsonSchema, node: SchemaNode): void {
  switch (node.type) {
    case 'object': {
      const required: string[] = [];
      const properties: JsonSchema = {};
      for (const [name, field] of node.properties) {
        properties[name] = toJsonSchema(field.node);
        if (!field.optional) required.push(name);
      }
      if (required.length > 0) json['required'] = required;
      json['properties'] = properties;
      return;
    }
    case 'map':
      json['maxProperties'] = node.maxProperties;
      json['additionalProperties'] = toJsonSchema(node.value);
      return;
    case 'list':
      addList(json, node);
      return;
    case 'string':
      addString(json, node);
      return;
    case 'integer':
      json['minimum'] = node.minimum;
      json['maximum'] = node.maximum;
      return;
    case 'boolean':
      if (node.only !== undefined) json['enum'] = [node.only];
  }
}

function addList(json: JsonSchema, node: ListNode): void {
  if (node.minItems !== undefined) json['minItems'] = node.minItems;
  json['maxItems'] = node.maxItems;
  if (node.unique === 'set') json['x-kubernetes-list-type'] = 'set';
  else if (node.unique === undefined) json['x-kubernetes-list-type'] = 'atomic';
  else {
    json['x-kubernetes-list-type'] = 'map';
    json['x-kubernetes-list-map-keys'] = [node.unique.key];
  }
  json['items'] = toJsonSchema(node.items);
}

function addString(json: JsonSchema, node: StringNode): void {
  if (node.values !== undefined) json['enum'] = node.values;
  if (node.minLength !== undefined) json['minLength'] = node.minLength;
  if (node.maxLength !== undefined) json['maxLength'] = node.maxLength;
  if (node.pattern !== undefined) json['pattern'] = node.pattern;
}

function ruleJson({ rule, message, fix }: CelRule): JsonSchema {
  return { rule, message: fix === undefined ? message : `${message}; ${fix}` };
}
