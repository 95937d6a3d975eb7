import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parse, stringify } from 'yaml';
import { BEYOND_QUICK, parseQuickYaml } from './quick-yaml.js';

describe('parseQuickYaml', () => {
  it('reads what manifests are made of', () => {
    const text = `# a pod
apiVersion: v1
kind: Pod   # yes
metadata:
  name: web-0
  labels:
    app.kubernetes.io/name: "web"
    version: 1.2.3

  annotations: {}
spec:
  containers:
  - name: main
    image: registry.example:5000/app@sha256:abc
    args: ["-c", "a b"]
    ports:
      - containerPort: 8080
  - name: side
  hostNetwork: false
  tolerations: []
  empty:
status: ~
`;
    const value = parseQuickYaml(text);
    expect(value).not.toBe(BEYOND_QUICK);
    expect(value).toEqual(parse(text));
  });

  it.each([
    'a: &x 1',
    'a: *x',
    'a: !!str 1',
    'a: |\n  text',
    'a: >\n  text',
    'a: [b, c]',
    'a: {b: c}',
    'a: "\\n"',
    "a: 'it''s'",
    'a: b\n  c',
    'a: 0x10',
    'a: 1e3',
    'a: -5',
    'a: .5',
    'a: 007',
    'a: 12345678901234567890',
    'a: b: c',
    'a: b:',
    'a: 1\na: 2',
    'true: 1',
    'null: 1',
    '__proto__: 1',
    '<<: 1',
    '? a\n: b',
    '- - a',
    '-\n  a: 1',
    'a:\n\tb: 1',
    'a: b\r\nc: d',
    'a:\n    b: 1\n  c: 1',
    'a: %x',
    'a: @x',
    'a: "b" c',
    'plain text',
    '"a": "b"\n  "c": d',
    '\ufeffa: b',
  ])('leaves %j to the full parser', (text) => {
    expect(parseQuickYaml(text)).toBe(BEYOND_QUICK);
  });

  it('says that a document of comments is empty', () => {
    expect(parseQuickYaml('# nothing\n\n   # here\n')).toBeUndefined();
  });

  it('agrees with the full parser on whatever it reads, however wild the text', () => {
    const piece = fc.constantFrom(
      ...[
        'a',
        'b',
        'key',
        ':',
        ': ',
        ' ',
        '  ',
        '\n',
        '\n  ',
        '\n- ',
        '- ',
        '\n    ',
        '"',
        "'",
        '#',
        ' #',
        '1',
        '0',
      ],
      ...[
        '-',
        '.',
        '~',
        'null',
        'true',
        '{}',
        '[]',
        '["x"]',
        ',',
        '?',
        '!',
        '&',
        '*',
        '|',
        'é',
        '/',
        '_',
        'e5',
        'k: v\n',
      ],
      ...[
        '\n  k:',
        '\nz: ',
        '\n',
        'no',
        '0o7',
        '+1',
        '__proto__',
        '---',
        '...',
        '<<',
        '%',
        '@',
        '\t',
        '\r\n',
      ],
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const text = pieces.join('');
        const quick = parseQuickYaml(text);
        if (quick === BEYOND_QUICK) return;
        expect(quick).toEqual(parse(text) ?? undefined);
      }),
      { numRuns: 20_000 },
    );
  });

  it('reads every manifest-like value that the full library writes, or leaves it', () => {
    let read = 0;
    const name = fc.stringMatching(/^[a-z][a-z0-9./-]{0,12}$/);
    const tree = fc.letrec((tie) => ({
      node: fc.oneof(
        { maxDepth: 5 },
        name,
        fc.string(),
        fc.integer(),
        fc.boolean(),
        fc.constant(null),
        fc.dictionary(name, tie('node'), { maxKeys: 4 }),
        fc.array(tie('node'), { maxLength: 3 }),
      ),
    }));
    fc.assert(
      fc.property(fc.dictionary(name, tree.node, { minKeys: 1, maxKeys: 5 }), (value) => {
        const text = stringify(value);
        const quick = parseQuickYaml(text);
        if (quick === BEYOND_QUICK) return;
        read++;
        expect(quick).toEqual(parse(text));
      }),
      { numRuns: 2_000 },
    );
    expect(read).toBeGreaterThan(200);
  });
});
