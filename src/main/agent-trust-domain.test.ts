import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { TestAuthority } from '../../test/support/test-authority.js';
import { formatBundleDocument } from '../identity/spiffe/bundle-document.js';
import { trustDomainOfBundle, untilTrustDomain } from './agent-trust-domain.js';

async function bundleOf(...trustDomains: readonly string[]): Promise<string> {
  const authorities = await Promise.all(trustDomains.map((name) => TestAuthority.create(name)));
  return formatBundleDocument({
    trustDomain: trustDomains[0] ?? 'none.example',
    x509Authorities: authorities.map(({ certificate }) => certificate),
    jwtAuthorities: [],
    sequence: 1,
  });
}

describe('the trust domain of a bundle', () => {
  it('is the one that its authorities name, however many there are', async () => {
    expect(trustDomainOfBundle(await bundleOf('shop.example'))).toBe('shop.example');
    expect(trustDomainOfBundle(await bundleOf('shop.example', 'shop.example'))).toBe('shop.example');
  });

  it('is not guessed where they name none or several', async () => {
    const several = await bundleOf('shop.example', 'other.example');
    expect(() => trustDomainOfBundle(several)).toThrow(
      expect.objectContaining({
        code: 'TrustDomainUnknown',
        message: expect.stringContaining('--trust-domain'),
      }),
    );
    const none = await bundleOf();
    expect(() => trustDomainOfBundle(none)).toThrow(expect.objectContaining({ code: 'TrustDomainUnknown' }));
    expect(() => trustDomainOfBundle('{')).toThrow(expect.objectContaining({ code: 'BundleInvalid' }));
  });

  it('is waited for: each reason is told once', async () => {
    const clock = new FakeClock();
    const logger = recordingLogger();
    const contents: (string | Error)[] = [new Error('not there'), new Error('not there'), '{'];
    const good = await bundleOf('shop.example');
    const name = untilTrustDomain(
      () => {
        const next = contents.shift() ?? good;
        return typeof next === 'string' ? Promise.resolve(next) : Promise.reject(next);
      },
      { clock, logger, signal: new AbortController().signal },
    );
    for (let turn = 0; turn < 3; turn++) {
      await clock.armed();
      await clock.advance(1_000);
    }
    expect(await name).toBe('shop.example');
    expect(logger.lines).toEqual([
      'warn the trust bundle cannot be used yet',
      'warn the trust bundle cannot be used yet',
    ]);
  });
});
