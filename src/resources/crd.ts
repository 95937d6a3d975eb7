import { Document, visit } from 'yaml';
import type { PrinterColumn } from './definitions.js';
import { DEFINITIONS } from './definitions.js';
import type { SignetKind } from './kinds.js';
import { SIGNET_KINDS } from './kinds.js';
import { SIGNET_GROUP, SIGNET_VERSION } from './meta.js';
import type { JsonValue } from './schema.js';
import type { JsonSchema } from './schema-json.js';
import { toJsonSchema } from './schema-json.js';

/** A CustomResourceDefinition, as it is given to the API server. */
export type CustomResourceDefinition = JsonSchema;

/** All kinds of Signet in the order of DESIGN §3. */
export const kinds = Object.keys(SIGNET_KINDS) as readonly SignetKind[];

/** The CustomResourceDefinition of a kind. */
export function crdFor(kind: SignetKind): CustomResourceDefinition {
  const { plural, singular, shortNames, columns } = DEFINITIONS[kind];
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${SIGNET_GROUP}`, labels: { 'app.kubernetes.io/part-of': 'signet' } },
    spec: {
      group: SIGNET_GROUP,
      names: { kind, listKind: `${kind}List`, plural, singular, shortNames, categories: ['signet'] },
      scope: SIGNET_KINDS[kind],
      versions: [
        {
          name: SIGNET_VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: columns.map(columnJson),
          schema: { openAPIV3Schema: rootSchema(kind) },
        },
      ],
    },
  };
}

function rootSchema(kind: SignetKind): JsonSchema {
  const { description, spec, status } = DEFINITIONS[kind];
  return {
    description,
    type: 'object',
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: { type: 'object' },
      spec: toJsonSchema(spec.node),
      status: toJsonSchema(status.node),
    },
  };
}

function columnJson({ name, type, jsonPath, description, wide }: PrinterColumn): JsonValue {
  return { name, type, jsonPath, description, ...(wide === undefined ? {} : { priority: 1 }) };
}

/** All CustomResourceDefinitions as files: name and content, always the same for the same source. */
export function allCrds(): { readonly file: string; readonly content: string }[] {
  return kinds.map((kind) => ({
    file: `${DEFINITIONS[kind].plural}.yaml`,
    content: `# Generated from src/resources by \`npm run generate\`. Do not edit.\n${toYaml(crdFor(kind))}`,
  }));
}

function toYaml(value: JsonValue): string {
  const document = new Document(value, { aliasDuplicateObjects: false });
  // Texts that YAML 1.1 readers (kubectl among them) take for something else stay texts.
  visit(document, {
    Scalar(_, node) {
      if (typeof node.value === 'string' && /^(y|n|yes|no|on|off)$/i.test(node.value))
        node.type = 'QUOTE_DOUBLE';
    },
  });
  return document.toString({ lineWidth: 0 });
}
