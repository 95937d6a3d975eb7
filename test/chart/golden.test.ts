import { describe, expect, it } from '@jest/globals';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { render, renderAs, SECOND, USUAL, valueSets } from '../support/chart.js';
import * as rig from '../rig/rig.js';

/*
 * What the chart makes of each set of values, letter by letter: a change of the chart shows in a diff what it does to
 * installations. `UPDATE_GOLDEN=1` writes the files anew. Of the sets other than the default only what they change is kept.
 * The set `second` is made under the name of another release, in another namespace.
 */

const GOLDEN = join(import.meta.dirname, 'golden');
const NAMES = ['default', 'small', 'watched', 'injecting', 'elsewhere', 'sealed', 'second'];

/** The manifests, each under what it is of. */
async function documents(name: string): Promise<ReadonlyMap<string, string>> {
  const values = (await valueSets()).get(name) ?? '';
  const text = await renderAs(name === 'second' ? SECOND : USUAL, '--values', values);
  return new Map(
    text
      .split(/^---\n/m)
      .filter((one) => one.trim() !== '')
      .map((one) => {
        const { kind, metadata } = (parseAllDocuments(one)[0]?.toJS() ?? {}) as {
          readonly kind: string;
          readonly metadata: { readonly name: string };
        };
        return [`${kind} ${metadata.name}`, one];
      }),
  );
}

function changed(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): string {
  const gone = [...before.keys()].filter((key) => !after.has(key)).map((key) => `# without ${key}\n`);
  const different = [...after].filter(([key, one]) => before.get(key) !== one).map(([, one]) => one);
  return [gone.join(''), ...different].join('---\n');
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the manifests of the chart', () => {
  it.each(NAMES)(
    'are those that were looked at: %s',
    async (name) => {
      const base = await documents('default');
      const text =
        name === 'default' ? [...base.values()].join('---\n') : changed(base, await documents(name));
      const file = join(GOLDEN, `${name}.yaml`);
      if (process.env['UPDATE_GOLDEN'] === '1') await writeFile(file, text);
      expect(text).toBe(await readFile(file, 'utf8'));
    },
    rig.rigTimeout,
  );

  it('are of every set of values that there is', async () => {
    expect([...(await valueSets()).keys()]).toEqual([...NAMES].sort());
  });

  it('are the same whenever they are made', async () => {
    for (const file of (await valueSets()).values())
      expect(await render('--values', file)).toBe(await render('--values', file));
  });
});
