import { createHash } from 'node:crypto';
import { relative, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Severity } from '../access/analysis/lint-rules.js';
import type { FilePlace, FileProblem } from '../store/folder/problems.js';
import { FILE_RULES, type ReportRule } from './report-rules.js';

/** One thing that a command found. */
export interface ReportedFinding {
  readonly rule: Pick<ReportRule, 'id'>;
  /** The rule's unless said. */
  readonly severity?: Severity;
  readonly message: string;
  readonly place?: FilePlace;
  /** What it is about, in the words of the user's resources: `shop/orders/rule`. */
  readonly subject?: string;
}

/** What a command found, and how it went. */
export interface Report {
  /** Rules that the command looks for. */
  readonly rules: readonly ReportRule[];
  readonly findings: readonly ReportedFinding[];
  /** False when the command could not do its work. */
  readonly done: boolean;
  /** The folder or file that was asked about: the place of what has none of its own. */
  readonly root: string;
}

type Json = Readonly<Record<string, unknown>>;

const LEVELS: Readonly<Record<Severity, string>> = { error: 'error', warning: 'warning', info: 'note' };
const RULES_PAGE = 'docs/reference/rules.md';

/** A report as a SARIF log (OASIS SARIF 2.1.0, section numbers below): what CI systems and editors show at the line. */
export function sarifLog({ rules: known, findings, done, root }: Report): Json {
  const rules = [...known, ...Object.values(FILE_RULES)];
  const indices = new Map(rules.map(({ id }, index) => [id, index]));
  const severities = new Map<string, Severity>(rules.map(({ id, severity }) => [id, severity]));
  const seen = new Map<string, number>();
  const results = findings.map((finding): Json => {
    const { rule, message, place, subject } = finding;
    const ruleIndex = indices.get(rule.id);
    if (ruleIndex === undefined) throw new Error(`${rule.id} is no rule of this report`);
    const print = fingerprint([
      rule.id,
      subject ?? '',
      place === undefined ? '' : uriOf(place.file),
      message,
    ]);
    // Two results of one fingerprint would be taken for one (§3.27.16).
    const count = seen.get(print) ?? 0;
    seen.set(print, count + 1);
    return {
      ruleId: rule.id,
      ruleIndex,
      level: LEVELS[finding.severity ?? severities.get(rule.id) ?? 'warning'],
      message: { text: message },
      locations: [locationOf(place, root, subject)],
      partialFingerprints: { 'signetFinding/v1': count === 0 ? print : `${print}:${count}` },
    };
  });
  return {
    $schema: 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: { driver: { name: 'signet', rules: rules.map(descriptor) } },
        // Columns count as JavaScript does (§3.14.17).
        columnKind: 'utf16CodeUnits',
        invocations: [{ executionSuccessful: done }],
        results,
      },
    ],
  };
}

/** What is wrong in files. */
export function fileFindings(problems: readonly FileProblem[]): readonly ReportedFinding[] {
  return problems.map(({ file, line, column, severity, object, path, message, fix }) => {
    const subject = [object, path].filter((part) => part !== undefined && part !== '').join(' ');
    return {
      rule: FILE_RULES[severity],
      message: `${path === '' ? '' : `${path}: `}${message}${fix === undefined ? '' : `; ${fix}`}`,
      place: { file, line, column },
      ...(subject === '' ? {} : { subject }),
    };
  });
}

/** §3.49. */
function descriptor({ id, severity, title, why, fix }: ReportRule): Json {
  return {
    id,
    name: title
      .split(/[^A-Za-z]+/)
      .map((word) => `${word.slice(0, 1).toUpperCase()}${word.slice(1)}`)
      .join(''),
    shortDescription: { text: title },
    fullDescription: { text: `${why} ${fix}` },
    help: {
      text: `${why} ${fix}`,
      markdown: `${why}\n\n**Fix:** ${fix}\n\nAll rules: \`${RULES_PAGE}\`, under \`${id}\`.`,
    },
    defaultConfiguration: { level: LEVELS[severity] },
  };
}

/** §3.28. Without a place of its own a result is of all that was asked about: code scanning shows none without a file. */
function locationOf(place: FilePlace | undefined, root: string, subject: string | undefined): Json {
  const region = place === undefined ? {} : { region: { startLine: place.line, startColumn: place.column } };
  return {
    physicalLocation: { artifactLocation: { uri: uriOf(place?.file ?? root) }, ...region },
    ...(subject === undefined ? {} : { logicalLocations: [{ fullyQualifiedName: subject }] }),
  };
}

/** Relative to where the command runs, which in CI is the repository; absolute for what lies elsewhere (§3.4.3). */
function uriOf(file: string): string {
  if (file === '-' || file === 'stdin') return 'stdin';
  const path = relative(resolve(), resolve(file));
  if (path === '..' || path.startsWith(`..${sep}`)) return pathToFileURL(resolve(file)).href;
  return path === '' ? './' : path.split(sep).map(encodeURIComponent).join('/');
}

/** Knows a finding again when lines above it come and go: so it holds no line. */
function fingerprint(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}
