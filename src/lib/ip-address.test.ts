import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { BlockList, isIP } from 'node:net';
import { blockHolds, parseIpAddress, parseIpBlock } from './ip-address.js';

function cidrProblem(text: string): { readonly message: string; readonly fix: string } | undefined {
  const parsed = parseIpBlock(text);
  return parsed.ok ? undefined : parsed;
}

describe('parseIpBlock', () => {
  it.each([
    '0.0.0.0/0',
    '10.0.0.0/8',
    '192.168.1.7/32',
    '::/0',
    '2001:db8::/32',
    '::1/128',
    '2001:DB8:1:2:3:4:5:6/128',
  ])('takes %s', (text) => {
    expect(cidrProblem(text)).toBeUndefined();
  });

  it.each([
    ...[
      '',
      '/',
      '10.0.0.0',
      '10.0.0.0/',
      '10.0.0.0/33',
      '10.0.0/8',
      '10.0.0.256/32',
      '010.0.0.0/8',
      '10.0.0.0/08',
      '10.0.0.0/-1',
    ],
    ...[
      ':::/0',
      '1::2::3/128',
      '12345::/16',
      '1:2:3:4:5:6:7/128',
      '1:2:3:4:5:6:7:8:9/128',
      '::/129',
      'x::/16',
      '::ffff:10.0.0.0/104',
    ],
  ])('refuses %j', (text) => {
    expect(cidrProblem(text)?.message).toContain('is no CIDR block');
  });

  it.each([
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['255.255.255.255/1', '128.0.0.0/1'],
    ['2001:db8::1/32', '2001:db8:0:0:0:0:0:0/32'],
  ])('says which block %s may mean', (text, block) => {
    expect(cidrProblem(text)?.fix).toBe(`write "${block}"`);
    expect(cidrProblem(block)).toBeUndefined();
  });

  it('takes just the addresses that Node takes, and fixes to the same network', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string()), fc.nat(140), (address, length) => {
        const problem = cidrProblem(`${address}/${length}`);
        const family = isIP(address);
        // Addresses of both kinds at once are refused on purpose.
        if (family === 6 && address.includes('.')) return;
        if (family === 0 || length > (family === 4 ? 32 : 128)) {
          expect(problem?.message).toContain('is no CIDR block');
          return;
        }
        if (problem === undefined) return;
        const block = /^write "(.*)\/\d+"$/.exec(problem.fix)?.[1] ?? '';
        const list = new BlockList();
        list.addSubnet(block, length, family === 4 ? 'ipv4' : 'ipv6');
        expect(list.check(address, family === 4 ? 'ipv4' : 'ipv6')).toBe(true);
      }),
    );
  });
});

describe('blockHolds', () => {
  it('says what Node says', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.tuple(fc.ipV4(), fc.ipV4()), fc.tuple(fc.ipV6(), fc.ipV6())),
        fc.nat(128),
        fc.boolean(),
        ([network, other], length, same) => {
          const problem = parseIpBlock(`${network}/${length}`);
          const fixed = problem.ok ? `${network}/${length}` : /"(.*)"/.exec(problem.fix)?.[1];
          const parsed = parseIpBlock(fixed ?? '');
          const address = same ? network : other;
          const bytes = parseIpAddress(address);
          // Beyond 32 bits there is no IPv4 block, and mixed texts and mapped addresses are ours alone.
          if (!parsed.ok || bytes === undefined || (bytes.length === 4) !== (isIP(address) === 4)) return;
          const family = isIP(address) === 4 ? 'ipv4' : 'ipv6';
          const list = new BlockList();
          list.addSubnet(parsed.block.text.slice(0, parsed.block.text.indexOf('/')), length, family);
          expect(blockHolds(parsed.block, bytes)).toBe(list.check(address, family));
        },
      ),
    );
  });

  it('takes an IPv4 address inside IPv6 for the IPv4 address', () => {
    const parsed = parseIpBlock('10.0.0.0/8');
    if (!parsed.ok) throw new Error(parsed.message);
    expect(blockHolds(parsed.block, parseIpAddress('::ffff:10.1.2.3') ?? [])).toBe(true);
    expect(blockHolds(parsed.block, parseIpAddress('::ffff:0b01:203') ?? [])).toBe(false);
    expect(parseIpAddress('10.0.0.1.2')).toBeUndefined();
    expect(parseIpAddress('fe80::1%eth0')).toBeUndefined();
  });
});
