import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { opaBuildSigned, opaCheck, opaEval, opaVerify } from './opa.js';
import * as rig from './rig.js';

const rego = `package access

allow if {
	some rule in data.rules[input.principal]
	rule.method == input.method
	startswith(input.path, rule.prefix)
}
`;
const rules = { 'spiffe://td/ns/a/sa/b': [{ method: 'GET', prefix: '/api/' }] };

(rig.isSkipped('opa') ? describe.skip : describe)('OPA', () => {
  let folder: string;
  let bundle: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'opa-'));
    bundle = join(folder, 'bundle');
    mkdirSync(bundle);
    writeFileSync(join(bundle, 'access.rego'), rego);
    writeFileSync(join(bundle, 'data.json'), JSON.stringify({ rules }));
    await rig.opa();
  }, rig.rigTimeout);
  afterAll(() => rmSync(folder, { recursive: true }));

  it('answers each of many inputs in order, undefined where the query is', async () => {
    const ask = { principal: 'spiffe://td/ns/a/sa/b', method: 'GET', path: '/api/x' };
    const inputs = [{ ...ask, path: '/apix' }, ask, { ...ask, method: 'POST' }, ask, {}];
    const expected = [undefined, true, undefined, true, undefined];
    expect(await opaEval({ bundles: [bundle] }, 'data.access.allow', inputs)).toEqual(expected);
    const files = [join(bundle, 'access.rego'), join(bundle, 'data.json')];
    expect(await opaEval({ data: files }, 'data.access.allow', inputs)).toEqual(expected);
  });

  it('says what is wrong with a policy', async () => {
    expect(await opaCheck([join(bundle, 'access.rego')])).toBe('');
    const wrong = join(folder, 'wrong.rego');
    writeFileSync(wrong, 'package access\n\nallow if inptu.x\n');
    expect(await opaCheck([wrong])).toContain('inptu');
    await expect(opaEval({ data: [wrong] }, 'data.access.allow', [{}])).rejects.toThrow('inptu');
  });

  it('takes a bundle by its signature, and none that another key has signed or none', async () => {
    const write = (name: string, content: string): string => {
      const file = join(folder, name);
      writeFileSync(file, content);
      return file;
    };
    const pair = (name: string): { private: string; public: string } => {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      return {
        private: write(`${name}.key`, privateKey.export({ type: 'pkcs8', format: 'pem' }) as string),
        public: write(`${name}.pub`, publicKey.export({ type: 'spki', format: 'pem' }) as string),
      };
    };
    const [good, other] = [pair('good'), pair('other')];
    const signed = join(folder, 'signed.tar.gz');
    await opaBuildSigned(bundle, signed, { file: good.private, algorithm: 'ES256' });
    expect(await opaVerify(signed, { file: good.public, algorithm: 'ES256' })).toBe('');
    expect(await opaVerify(signed, { file: other.public, algorithm: 'ES256' })).toMatch(/verif/i);
    expect(await opaVerify(bundle, { file: good.public, algorithm: 'ES256' })).toMatch(/signature/i);
    expect(await opaEval({ bundles: [signed] }, 'data.access.allow', [{}])).toEqual([undefined]);
  });
});
