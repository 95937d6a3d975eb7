import { describe, expect, it } from '@jest/globals';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { admitObject } from '../../src/resources/admit.js';
import { isSignetKind } from '../../src/resources/kinds.js';

/* What the pages show is taken by the program, and what they point at is there. */

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const pages = [
  ...['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md'],
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => join('docs', file)),
];

function read(page: string): string {
  return readFileSync(join(root, page), 'utf8');
}

/** Objects of Signet in the YAML blocks of a page. */
function manifests(page: string): Record<string, unknown>[] {
  const blocks = [...read(page).matchAll(/^ *```ya?ml\n([\s\S]*?)^ *```$/gm)].map(([, text]) => text ?? '');
  // Parts of Envoy configurations are no objects of ours, and may lean on anchors elsewhere.
  return blocks
    .filter((text) => text.includes('signet.dev/'))
    .flatMap((text) => parseAllDocuments(text))
    .map((document) => document.toJS() as unknown)
    .filter((value): value is Record<string, unknown> => typeof value === 'object' && value !== null)
    .filter(({ apiVersion }) => apiVersion === 'signet.dev/v1alpha1');
}

/** A heading as a link names it, as GitHub makes it. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[`*]/g, '')
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(/\s/g, '-');
}

describe('the pages', () => {
  it.each(pages)('%s points at files and headings that are there', (page) => {
    const text = read(page).replaceAll(/^ *```[\s\S]*?^ *```$/gm, '');
    const broken = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target]) => target ?? '')
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [file = '', heading] = target.split('#');
        const path = file === '' ? page : join(dirname(page), file);
        if (!existsSync(join(root, path))) return true;
        if (heading === undefined || !path.endsWith('.md')) return false;
        const headings = [...read(path).matchAll(/^#+ (.*)$/gm)].map(([, title]) => anchor(title ?? ''));
        return !headings.includes(heading);
      });
    expect({ page: relative(root, join(root, page)), broken }).toEqual({ page, broken: [] });
  });

  const withManifests = pages.filter((page) => manifests(page).length > 0);

  it('show resources', () => {
    expect(withManifests.length).toBeGreaterThan(2);
  });

  it.each(withManifests)('%s shows resources that are valid', (page) => {
    for (const object of manifests(page)) {
      const kind = String(object['kind']);
      if (!isSignetKind(kind)) continue;
      expect({ kind, problems: admitObject(kind, object).problems }).toEqual({ kind, problems: [] });
    }
  });
});
