// Compiles src/ to dist/. Runs after `npm ci` (prepare) and by hand with `npm run build`.
import { execFileSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
// `npm ci --omit=dev` (an image build) brings no compiler: dist/ must then be there already.
if (!existsSync(tsc)) {
  if (existsSync(join(root, 'dist', 'main', 'signet.js'))) process.exit(0);
  console.error('signet: no TypeScript compiler and no dist/: run `npm ci` without --omit=dev first');
  process.exit(1);
}
rmSync(join(root, 'dist'), { recursive: true, force: true });
execFileSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit' });
