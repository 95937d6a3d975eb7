import { line, names, ports } from './forms.js';
import type {
  GrpcMatch,
  HttpMatch,
  Operation,
  PathMatch,
  ResourceMatch,
  ValueMatch,
  ValueOperator,
} from './policy.js';
import type { Schema } from './schema.js';
import {
  atLeastOneOf,
  atMostOneOf,
  exactlyOneOf,
  list,
  objectSchema,
  oneOf,
  optional,
  text,
} from './schema.js';
import { valueOperators, valuesRule } from './value-operators.js';

/* What is called: the entries of to, and the permissions of roles. */

function path(description: string): Schema<string> {
  return text(description, {
    maxLength: 1024,
    pattern: '^/[^?#\\s]*$',
    form: 'begin with "/" and leave out query and fragment',
  });
}

const pathMatch = objectSchema<PathMatch>(
  'A path; compared in normal form, with case, without the query.',
  {
    exact: optional(path('The whole path.')),
    prefix: optional(path('This path and all below it, by whole segments: /api is not /apis.')),
    template: optional(path('A {name} stands for one segment, a last {name=**} for all the rest.')),
  },
  { rules: [exactlyOneOf(['exact', 'prefix', 'template'])] },
);

function valueMatch(name: Schema<string>): Schema<ValueMatch> {
  return objectSchema<ValueMatch>(
    'A name and its values.',
    {
      name,
      operator: optional(oneOf<ValueOperator>('How the value is compared; In unless said.', valueOperators)),
      values: optional(
        names('Values for In and NotIn; exact, with case.', text('A value.', { maxLength: 1024 }), 32),
      ),
    },
    { rules: [valuesRule] },
  );
}

const headerName = text('Name of the header.', {
  minLength: 1,
  maxLength: 256,
  pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
  form: 'write the name of a header, without ":"',
});

const http = objectSchema<HttpMatch>(
  'HTTP requests; a field that is not written matches all.',
  {
    hosts: optional(
      names(
        'Hosts, without port and without case.',
        text('A host; "*.example.org" has one or more labels in front.', {
          minLength: 1,
          maxLength: 255,
          pattern: '^(\\*\\.)?[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$',
          form: 'write a host name without scheme and port: "api.example.org", "*.example.org"',
        }),
        32,
      ),
    ),
    methods: optional(
      names(
        'Methods.',
        text('A method.', {
          minLength: 1,
          maxLength: 32,
          pattern: '^[A-Z][A-Z0-9_-]*$',
          form: 'write it in upper case: "GET"',
        }),
        16,
      ),
    ),
    paths: optional(list('Paths.', pathMatch, { minItems: 1, maxItems: 32 })),
    headers: optional(
      list('Headers, all of which must hold.', valueMatch(headerName), { minItems: 1, maxItems: 16 }),
    ),
    query: optional(
      list('Query parameters, all of which must hold.', valueMatch(line('Name of the parameter.', 256)), {
        minItems: 1,
        maxItems: 16,
      }),
    ),
  },
  { rules: [atLeastOneOf(['hosts', 'methods', 'paths', 'headers', 'query'])] },
);

const grpc = objectSchema<GrpcMatch>('gRPC calls.', {
  service: text('Full name of the service, with its package.', {
    minLength: 1,
    maxLength: 512,
    pattern: '^[A-Za-z_][A-Za-z0-9_]*(\\.[A-Za-z_][A-Za-z0-9_]*)*$',
    form: 'write package and service: "payments.v1.Payments"',
  }),
  methods: optional(
    names(
      'Methods; all unless said.',
      text('A method.', {
        minLength: 1,
        maxLength: 256,
        pattern: '^[A-Za-z_][A-Za-z0-9_]*$',
        form: 'write the name alone: "Charge"',
      }),
    ),
  ),
});

const resource = objectSchema<ResourceMatch>('Resources of an application.', {
  type: line('Their type.', 256),
  ids: optional(names('Exact ids; all unless said.', line('An id.', 1024))),
});

const operation = objectSchema<Operation>(
  'What is called; all fields must hold.',
  {
    ports: optional(ports('Ports of the pod.')),
    http: optional(http),
    grpc: optional(grpc),
    actions: optional(names('Actions of an application.', line('An action.', 256))),
    resources: optional(
      list('Resources that the actions are on; all unless said.', resource, { minItems: 1, maxItems: 32 }),
    ),
  },
  {
    rules: [
      atLeastOneOf(['ports', 'http', 'grpc', 'actions', 'resources']),
      {
        ...atMostOneOf(['http', 'grpc']),
        fix: 'write one entry for each: the entries are alternatives',
      },
      {
        rule: '!(has(self.actions) || has(self.resources)) || !(has(self.ports) || has(self.http) || has(self.grpc))',
        message: 'actions and resources of an application do not go with ports, http or grpc',
        fix: 'write one entry for each: the entries are alternatives',
      },
    ],
  },
);

/** A list of operations. */
export function operations(description: string): Schema<readonly Operation[]> {
  return list(description, operation, { minItems: 1, maxItems: 32 });
}
