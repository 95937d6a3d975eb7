/**
 * What SARIF 2.1.0 (OASIS standard, incorporating approved errata 01) asks of the parts of a log that Signet writes, by
 * hand: which properties must be there, of which type, which values are taken, and what refers to what. Unknown
 * properties are problems, as `additionalProperties: false` of the schema makes them.
 */

type Check = (value: unknown, at: string) => readonly string[];

const fail = (at: string, what: string): readonly string[] => [`${at} ${what}`];
const text: Check = (value, at) =>
  typeof value === 'string' && value !== '' ? [] : fail(at, 'is no text that says something');
const flag: Check = (value, at) => (typeof value === 'boolean' ? [] : fail(at, 'is neither true nor false'));
const atLeast =
  (least: number): Check =>
  (value, at) =>
    Number.isInteger(value) && (value as number) >= least ? [] : fail(at, `is no integer from ${least} on`);
const oneOf =
  (...values: readonly string[]): Check =>
  (value, at) =>
    values.includes(value as string) ? [] : fail(at, `is none of ${values.join(', ')}`);
const list =
  (item: Check): Check =>
  (value, at) =>
    Array.isArray(value)
      ? value.flatMap((one: unknown, index) => item(one, `${at}[${index}]`))
      : fail(at, 'is no list');
/** Properties with `!` must be there. */
const object =
  (properties: Readonly<Record<string, Check>>): Check =>
  (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail(at, 'is no object');
    const known = new Map(
      Object.entries(properties).map(([name, check]) => [name.replace('!', ''), { name, check }]),
    );
    const missing = [...known].filter(([key, { name }]) => name.endsWith('!') && !(key in value));
    return [
      ...missing.flatMap(([key]) => fail(at, `has no ${key}`)),
      ...Object.entries(value).flatMap(
        ([key, inner]) =>
          known.get(key)?.check(inner, `${at}.${key}`) ?? fail(at, `has the unknown property ${key}`),
      ),
    ];
  };
/** RFC 3986: no blanks, and only the characters that a URI reference has. */
const uri: Check = (value, at) =>
  typeof value === 'string' && /^[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]+$/.test(value)
    ? []
    : fail(at, 'is no URI reference');

const message = object({ 'text!': text, markdown: text });
const level = oneOf('none', 'note', 'warning', 'error');
const LOG = object({
  $schema: uri,
  'version!': oneOf('2.1.0'),
  'runs!': list(
    object({
      'tool!': object({
        'driver!': object({
          'name!': text,
          rules: list(
            object({
              'id!': text,
              name: text,
              shortDescription: message,
              fullDescription: message,
              help: message,
              helpUri: uri,
              defaultConfiguration: object({ level }),
            }),
          ),
        }),
      }),
      columnKind: oneOf('utf16CodeUnits', 'unicodeCodePoints'),
      invocations: list(object({ 'executionSuccessful!': flag })),
      results: list(
        object({
          'message!': message,
          ruleId: text,
          ruleIndex: atLeast(0),
          level,
          locations: list(
            object({
              physicalLocation: object({
                artifactLocation: object({ uri }),
                region: object({ startLine: atLeast(1), startColumn: atLeast(1) }),
              }),
              logicalLocations: list(object({ fullyQualifiedName: text })),
            }),
          ),
          partialFingerprints: (value, at) =>
            Object.entries(value as object).flatMap(([key, print]) => text(print, `${at}.${key}`)),
        }),
      ),
    }),
  ),
});

export interface SarifRun {
  readonly tool: { readonly driver: { readonly rules: readonly { readonly id: string }[] } };
  readonly invocations: readonly { readonly executionSuccessful: boolean }[];
  readonly results: readonly {
    readonly ruleId: string;
    readonly ruleIndex: number;
    readonly level: string;
    readonly message: { readonly text: string };
    readonly locations: readonly {
      readonly physicalLocation: {
        readonly artifactLocation: { readonly uri: string };
        readonly region?: { readonly startLine: number; readonly startColumn: number };
      };
    }[];
    readonly partialFingerprints: Readonly<Record<string, string>>;
  }[];
}

/** The one run of a log; an error that lists all its problems where it is no SARIF. */
export function readSarif(log: string): SarifRun {
  const value = JSON.parse(log) as { readonly runs: readonly SarifRun[] };
  const problems = [...LOG(value, 'log')];
  const [run] = value.runs;
  if (run === undefined || value.runs.length !== 1) throw new Error('the log has not one run');
  const ids = run.tool.driver.rules.map(({ id }) => id);
  if (new Set(ids).size !== ids.length) problems.push('rule ids stand twice');
  const prints = run.results.map(({ partialFingerprints }) => JSON.stringify(partialFingerprints));
  if (new Set(prints).size !== prints.length) problems.push('fingerprints stand twice');
  // §3.27.6: ruleIndex is that of the rule which ruleId names.
  for (const { ruleId, ruleIndex } of run.results)
    if (ids[ruleIndex] !== ruleId) problems.push(`ruleIndex ${ruleIndex} is not that of ${ruleId}`);
  if (problems.length > 0) throw new Error(`no SARIF 2.1.0: ${problems.join('; ')}`);
  return run;
}
