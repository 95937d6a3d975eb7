import { renameSync, writeFileSync } from 'node:fs';
import { formatBundleDocument } from '../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Watched } from '../lib/watched.js';

/** Keeps the bundle document in a file for programs that read files. Readers see the old one or the new, never a part. */
export function keepBundleFile(path: string, bundle: Watched<TrustBundle>, logger: Logger): () => void {
  const write = (value: TrustBundle): void => {
    try {
      const temporary = `${path}.new`;
      writeFileSync(temporary, `${formatBundleDocument(value)}\n`, { mode: 0o644 });
      renameSync(temporary, path);
    } catch (thrown) {
      // Signing goes on: who reads the file has an older bundle meanwhile, and the log says so.
      logger.error('cannot write the bundle file', { path, error: SignetError.from(thrown).message });
    }
  };
  write(bundle.value);
  return bundle.watch(write);
}
