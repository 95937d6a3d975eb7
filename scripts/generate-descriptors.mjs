// Writes the descriptors of proto/ into src/rpc/descriptors.ts, for server reflection. Part of `npm run generate`.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const buf = join(root, 'node_modules', '.bin', 'buf');
const set = execFileSync(buf, ['build', '--as-file-descriptor-set', '--exclude-source-info', '-o', '-'], {
  cwd: root,
});
const lines = set.toString('base64').match(/.{1,100}/g) ?? [];
const text = `// Written by scripts/generate-descriptors.mjs from proto/. DO NOT EDIT.

/** A serialized FileDescriptorSet of everything in proto/ and what it imports, in base64. */
export const descriptorSet = [
${lines.map((line) => `  '${line}',`).join('\n')}
].join('');
`;
writeFileSync(join(root, 'src', 'rpc', 'descriptors.ts'), text);
