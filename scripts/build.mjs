// Compiles src/ to dist/. Runs after `npm ci` (prepare) and by hand with `npm run build`.
import { execFileSync } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
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
// Built aside and then put in place, so a program that starts meanwhile finds the old dist/ or the new one.
const fresh = join(root, `dist.new.${process.pid}`);
const old = join(root, `dist.old.${process.pid}`);
try {
  execFileSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', fresh], {
    stdio: 'inherit',
  });
  if (existsSync(join(root, 'dist'))) renameSync(join(root, 'dist'), old);
  renameSync(fresh, join(root, 'dist'));
} catch (error) {
  // The compiler has said what is wrong.
  process.exitCode = error.status ?? 1;
} finally {
  for (const left of [fresh, old]) rmSync(left, { recursive: true, force: true });
}
