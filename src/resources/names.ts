import type { FieldPath, Problem } from './problem.js';

const LABEL = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

/** A DNS label (RFC 1123): the form of namespace names. */
export function isDnsLabel(text: string): boolean {
  return text.length <= 63 && LABEL.test(text);
}

/** A DNS subdomain (RFC 1123): the form of object names. */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= 253 && SUBDOMAIN.test(text);
}

/** A label or annotation key: a name of at most 63 characters, after an optional DNS subdomain and `/`. */
export function isLabelKey(text: string): boolean {
  const slash = text.indexOf('/');
  const name = text.slice(slash + 1);
  return (slash < 0 || isDnsSubdomain(text.slice(0, slash))) && name.length <= 63 && QUALIFIED.test(name);
}

/** A label value: empty, or at most 63 characters of the same form as a name. */
export function isLabelValue(text: string): boolean {
  return text === '' || (text.length <= 63 && QUALIFIED.test(text));
}

/** What is wrong with a map of labels; nothing for undefined. */
export function checkLabels(labels: unknown, path: FieldPath): Problem[] {
  if (labels === undefined || labels === null) return [];
  if (typeof labels !== 'object' || Array.isArray(labels)) {
    return [error(path, 'must be a map from label keys to values')];
  }
  const problems: Problem[] = [];
  for (const [key, value] of Object.entries(labels)) {
    if (!isLabelKey(key))
      problems.push(error([...path, key], `${quote(key)} is no label key`, LABEL_KEY_FORM));
    if (typeof value !== 'string') {
      problems.push(
        error([...path, key], `${quote(value)} is no string`, `write ${JSON.stringify(String(value))}`),
      );
    } else if (!isLabelValue(value)) {
      problems.push(error([...path, key], `${quote(value)} is no label value`, LABEL_VALUE_FORM));
    }
  }
  return problems;
}

export const LABEL_KEY_FORM =
  'write at most 63 of a-z, A-Z, 0-9, "-", "_" and ".", beginning and ending with a letter or digit, after an optional "dns.name/"';
export const LABEL_VALUE_FORM =
  'write at most 63 of a-z, A-Z, 0-9, "-", "_" and ".", beginning and ending with a letter or digit';

/** A value in a message: as JSON, and never long. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}…`;
}

export function error(path: FieldPath, message: string, fix?: string): Problem {
  return { severity: 'error', path, message, ...(fix === undefined ? {} : { fix }) };
}

export function warning(path: FieldPath, message: string, fix?: string): Problem {
  return { severity: 'warning', path, message, ...(fix === undefined ? {} : { fix }) };
}
