/*
 * A program for tests: a CA on the state directory named by its argument that rotates and signs without pause until it
 * is killed. What others could have seen of it goes to stdout, one JSON object a line.
 */
import { join } from 'node:path';
import { openCertificateAuthority } from '../../src/identity/ca/certificate-authority.js';
import { openFileJournal } from '../../src/identity/ca/file-journal.js';
import { fileKeyStore } from '../../src/identity/keys/file-key-store.js';
import { exportSpki, generateKeyPair } from '../../src/identity/pki/keys.js';
import { parseSpiffeId } from '../../src/identity/spiffe/id.js';
import { systemClock } from '../../src/lib/clock.js';
import { silentLogger } from '../../src/lib/logger.js';
import { systemRandom } from '../../src/lib/random.js';

const directory = process.argv[2] ?? '';
const shared = { clock: systemClock, random: systemRandom, logger: silentLogger };
const say = (line: object): boolean => process.stdout.write(`${JSON.stringify(line)}\n`);
try {
  const ca = await openCertificateAuthority({
    trustDomain: 'example.org',
    keys: fileKeyStore({ directory: join(directory, 'keys'), random: systemRandom }),
    journal: await openFileJournal({ directory, ...shared }),
    config: {},
    ...shared,
  });
  const spki = exportSpki((await generateKeyPair('ec-p256')).publicKey);
  const spiffeId = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
  const tell = (): boolean =>
    say({
      sequence: ca.bundle.value.sequence,
      roots: ca.bundle.value.x509Authorities.map((der) => Buffer.from(der).toString('base64')),
    });
  ca.bundle.watch(tell);
  tell();
  const sign = async (): Promise<void> => {
    const { chain } = await ca.signX509({ spki, spiffeId, dnsNames: [], ttlSeconds: 600 });
    say({ chain: chain.map((der) => Buffer.from(der).toString('base64')) });
  };
  for (;;) {
    await sign();
    const rotation = ca.rotate('x509');
    await sign();
    await rotation;
    const old = ca.authorities().find((one) => one.kind === 'x509' && one.slot === 'old' && !one.revoked);
    if (old !== undefined && ca.bundle.value.x509Authorities.length > 8) {
      await ca.taint('x509', old.id);
      await ca.revoke('x509', old.id);
      say({ revoked: old.id });
    }
  }
} catch (error) {
  say({ error: error instanceof Error ? error.message : String(error) });
  process.exitCode = 1;
}
