/** What the pages of docs/ show, for tests that run it. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** The blocks of a page that are of a language, as they stand there: `blocksOf('workloads/go.md', 'go')`. */
export function blocksOf(page: string, language: string): readonly string[] {
  const text = readFileSync(join(root, 'docs', page), 'utf8');
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter(([, of]) => of === language)
    .map(([, , block = '']) => block);
}

/** The only such block of a page; throws when there is another number of them. */
export function blockOf(page: string, language: string): string {
  const [block, ...more] = blocksOf(page, language);
  if (block === undefined || more.length > 0)
    throw new Error(`docs/${page} has ${block === undefined ? 0 : 1 + more.length} blocks of ${language}`);
  return block;
}

/** The only block of a page that is whole objects to apply, from a namespace or a workload on; others show identities alone. */
export function manifestOf(page: string): string {
  const [manifest, ...more] = blocksOf(page, 'yaml').filter(
    (block) => /^apiVersion: /m.test(block) && /^kind: (Namespace|Pod|Deployment)$/m.test(block),
  );
  if (manifest === undefined || more.length > 0)
    throw new Error(`docs/${page} has not one manifest to apply`);
  return manifest;
}
