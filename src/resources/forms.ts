import { LABEL_KEY_FORM, LABEL_VALUE_FORM } from './names.js';
import type { Condition, LabelSelector, LabelSelectorRequirement } from './meta.js';
import type { Schema } from './schema.js';
import { integer, list, objectSchema, oneOf, optional, text, textMap } from './schema.js';

/* Texts and objects that several kinds share. */

/** A duration as Go writes it. */
export function duration(description: string, options: { readonly default?: string } = {}): Schema<string> {
  return text(description, {
    maxLength: 32,
    pattern: '^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$',
    form: 'write hours, minutes and seconds: "1h", "30m", "1h30m", "90s"',
    ...options,
  });
}

const INSTANT =
  '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$';
const INSTANT_FORM = 'write date, time and zone (RFC 3339): "2026-12-31T18:00:00Z"';

/**
 * An instant that a user writes. A pattern and a rule rather than `format: date-time`: with that, the API server lets
 * a list pass for a text (k8s.io/apiextensions-apiserver 0.34.1), which whoever reads the field would stumble over.
 */
export function dateTime(description: string): Schema<string> {
  return text(description, {
    maxLength: 40,
    pattern: INSTANT,
    instant: true,
    form: INSTANT_FORM,
    rules: [
      {
        rule: "timestamp(self) > timestamp('0001-01-01T00:00:00Z')",
        message: 'there is no such date and time',
        fix: INSTANT_FORM,
      },
    ],
  });
}

/** An instant that Signet itself writes, into a status. */
export function writtenTime(description: string): Schema<string> {
  return text(description, { maxLength: 40, pattern: INSTANT, instant: true, form: INSTANT_FORM });
}

export function dnsLabel(description: string): Schema<string> {
  return text(description, {
    minLength: 1,
    maxLength: 63,
    pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
    form: 'write lower-case letters, digits and "-", beginning and ending with a letter or digit',
  });
}

export function dnsSubdomain(description: string): Schema<string> {
  return text(description, {
    minLength: 1,
    maxLength: 253,
    pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
    form: 'write lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit',
  });
}

export function trustDomainName(description: string): Schema<string> {
  return text(description, {
    minLength: 1,
    maxLength: 255,
    pattern: '^[a-z0-9._-]+$',
    form: 'write the name alone, in lower case: "example.org"',
  });
}

export function spiffeID(description: string): Schema<string> {
  return text(description, {
    maxLength: 2048,
    pattern: '^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)*$',
    form: 'write "spiffe://", a trust domain in lower case, and a path of a-z, A-Z, 0-9, ".", "-", "_": "spiffe://example.org/ns/orders/sa/web"',
  });
}

/** Any one-line text. */
export function line(description: string, maxLength: number): Schema<string> {
  return text(description, {
    minLength: 1,
    maxLength,
    pattern: '^[^\\x00-\\x1f\\x7f]+$',
    form: 'write one line without control characters',
  });
}

export function ports(description: string): Schema<readonly number[]> {
  return list(description, integer('A port.', { minimum: 1, maximum: 65_535 }), {
    minItems: 1,
    maxItems: 64,
    unique: 'set',
  });
}

export function names(description: string, item: Schema<string>, maxItems = 64): Schema<readonly string[]> {
  return list(description, item, { minItems: 1, maxItems, unique: 'set' });
}

const requirement = objectSchema<LabelSelectorRequirement>(
  'A requirement on one label.',
  {
    key: text('Key of the label.', {
      minLength: 1,
      maxLength: 317,
      pattern: '^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$',
      form: LABEL_KEY_FORM,
    }),
    operator: oneOf<LabelSelectorRequirement['operator']>('How the label relates to the values.', {
      In: true,
      NotIn: true,
      Exists: true,
      DoesNotExist: true,
    }),
    values: optional(
      list('Values for In and NotIn.', labelValue('A value.'), { minItems: 1, maxItems: 64, unique: 'set' }),
    ),
  },
  {
    rules: [
      {
        rule: "has(self.values) == (self.operator in ['In', 'NotIn'])",
        message: 'In and NotIn need values, Exists and DoesNotExist take none',
      },
    ],
  },
);

function labelValue(description: string): Schema<string> {
  return text(description, {
    maxLength: 63,
    pattern: '^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$',
    form: LABEL_VALUE_FORM,
  });
}

export function labelSelector(description: string): Schema<LabelSelector> {
  return objectSchema<LabelSelector>(description, {
    matchLabels: optional(
      textMap('Labels with exactly these values, all of them.', { maxProperties: 32, maxLength: 63 }),
    ),
    matchExpressions: optional(
      list('Requirements, all of which must hold.', requirement, { minItems: 1, maxItems: 32 }),
    ),
  });
}

const condition = objectSchema<Condition>('One aspect of the state, as Kubernetes writes it.', {
  type: text('Which aspect.', { maxLength: 316 }),
  status: oneOf<Condition['status']>('Whether it holds.', { True: true, False: true, Unknown: true }),
  reason: text('Why, in one word.', { maxLength: 1024 }),
  message: text('Why, for people.', { maxLength: 32_768 }),
  lastTransitionTime: writtenTime('Since when.'),
  observedGeneration: optional(
    integer('The generation that this was said of.', { minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  ),
});

/** status.conditions of any kind. */
export const conditions = list('What is well and what is not, with the reason.', condition, {
  maxItems: 16,
  unique: { key: 'type' },
});

/** A number that only counts. */
export function count(description: string): Schema<number> {
  return integer(description, { minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
}

/** The path of a file on the machine of whoever reads it. */
export function filePath(description: string): Schema<string> {
  return text(description, {
    minLength: 1,
    maxLength: 4096,
    pattern: '^[^\\x00]+$',
    form: 'write the path of a file',
  });
}
