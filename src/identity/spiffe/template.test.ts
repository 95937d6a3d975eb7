import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { checkSpiffePath, spiffeId } from './id.js';
import {
  MAX_TEMPLATE_FIELDS,
  MAX_TEMPLATE_LENGTH,
  parseTemplate,
  type TemplateData,
  TemplateError,
  templateProblems,
} from './template.js';

const pod: TemplateData = {
  trustDomain: 'example.org',
  namespace: 'shop',
  serviceAccount: 'payments',
  podName: 'payments-1',
  podUid: 'b0a7',
  nodeName: 'node-1.internal',
  labels: { app: 'pay', 'app.kubernetes.io/name': 'payment-service', Team: 'Blue' },
  annotations: { tier: 'gold', evil: '../../admin' },
};

function text(template: string, data = pod, form: 'id' | 'dns' = 'id'): string {
  const rendered = parseTemplate(template).render(data, form);
  if (!rendered.ok) throw new Error(`${rendered.reason}: ${rendered.message}`);
  return rendered.text;
}

describe('a template', () => {
  it.each([
    ['/plain', '/plain'],
    [
      'spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}',
      'spiffe://example.org/ns/shop/sa/payments',
    ],
    ['/{{.PodName}}/{{ .PodUID }}/{{ .NodeName }}', '/payments-1/b0a7/node-1.internal'],
    ['/{{ .Labels.app }}-{{ .Annotations.tier }}', '/pay-gold'],
    ['/{{ index .Labels "app.kubernetes.io/name" }}', '/payment-service'],
    ['/{{ index .Labels `app` }}', '/pay'],
    ['/{{ .PodMeta.Namespace }}/{{ .PodMeta.Name }}/{{ .PodMeta.UID }}', '/shop/payments-1/b0a7'],
    ['/{{ .PodSpec.ServiceAccountName }}/{{ .PodSpec.NodeName }}', '/payments/node-1.internal'],
    ['/{{ .PodMeta.Labels.app }}/{{ index .PodMeta.Annotations "tier" }}', '/pay/gold'],
  ])('%s renders as %s', (template, wanted) => {
    expect(text(template)).toBe(wanted);
  });

  it.each([
    ['', 'is empty'],
    ['/{{ .Nope }}', 'there is no field .Nope'],
    ['/{{ .PodMeta.Nope }}', 'there is no field .PodMeta.Nope'],
    ['/{{ .Labels }}', 'names no key'],
    ['/{{ .Labels.a-b }}', 'index .Labels "key"'],
    ['/{{ .Labels.app', 'never closed'],
    ['/}}', 'no "{{" before it'],
    ['/{{ }}', 'names no field'],
    ['/{{ .Namespace | upper }}', 'not supported'],
    ['/{{ if .Namespace }}x{{ end }}', 'not supported'],
    ['/{{ index .Namespace "a" }}', 'index takes .Labels or .Annotations'],
    ['/{{ index .Labels "" }}', 'names no key'],
    ['/{{- .Namespace -}}', 'not supported'],
  ])('%s is refused with the fix', (template, why) => {
    expect(templateProblems(template).join('\n')).toContain(why);
    expect(() => parseTemplate(template)).toThrow(TemplateError);
  });

  it('lists every problem at once', () => {
    expect(templateProblems('/{{ .One }}/{{ .Two }}')).toHaveLength(2);
  });

  it('is bounded, and the error does not echo it', () => {
    const [problem = ''] = templateProblems('x'.repeat(MAX_TEMPLATE_LENGTH + 1));
    expect(problem).toContain('2048 are allowed');
    expect(problem.length).toBeLessThan(200);
    expect(templateProblems('{{ .Namespace }}'.repeat(MAX_TEMPLATE_FIELDS))).toEqual([]);
    expect(templateProblems('{{ .Namespace }}'.repeat(MAX_TEMPLATE_FIELDS + 1)).join()).toContain(
      '33 fields',
    );
  });

  it.each([
    ['/{{ .Annotations.evil }}', pod],
    ['/{{ .Labels.x }}', { ...pod, labels: { x: 'a/b' } }],
    ['/{{ .Labels.x }}', { ...pod, labels: { x: '..' } }],
    ['/{{ .Labels.x }}', { ...pod, labels: { x: '.' } }],
    ['/{{ .Labels.x }}', { ...pod, labels: { x: '%2e' } }],
    ['/{{ .Labels.x }}', { ...pod, labels: { x: '' } }],
    ['/{{ .Labels.x }}', { ...pod, labels: { x: 'a\n' } }],
    ['/{{ .PodName }}', { ...pod, podName: 'a?b' }],
  ])('%s never lets a value out of its path segment', (template, data) => {
    expect(parseTemplate(template).render(data, 'id')).toMatchObject({
      ok: false,
      reason: 'TemplateValueUnsafe',
    });
  });

  it('has no value for a missing label, for what a process lacks, and for what objects inherit', () => {
    const missing = { ok: false, reason: 'TemplateValueMissing' };
    expect(parseTemplate('/{{ .Labels.nope }}').render(pod, 'id')).toMatchObject(missing);
    expect(parseTemplate('/{{ .Labels.constructor }}').render(pod, 'id')).toMatchObject(missing);
    expect(parseTemplate('/{{ .Namespace }}').render({ trustDomain: 'example.org' }, 'id')).toMatchObject(
      missing,
    );
    expect(parseTemplate('/{{ .Labels.nope }}').render(pod, 'id')).toMatchObject({
      message: expect.stringContaining('there is no label "nope"'),
    });
  });

  it('keeps a value inside its DNS label', () => {
    expect(text('{{ .ServiceAccount }}.{{ .Namespace }}.svc', pod, 'dns')).toBe('payments.shop.svc');
    expect(text('{{ .Namespace }}.{{ .TrustDomain }}', pod, 'dns')).toBe('shop.example.org');
    for (const [key, value] of [
      ['dots', 'evil.example.com'],
      ['upper', 'Blue'],
      ['uri', 'spiffe://x'],
    ] as const) {
      const rendered = parseTemplate('{{ .Labels.x }}.svc').render({ ...pod, labels: { x: value } }, 'dns');
      expect([key, rendered.ok]).toEqual([key, false]);
    }
  });

  it('knows whether pods of one service account share what it renders', () => {
    expect(parseTemplate('/{{ .Namespace }}/{{ .ServiceAccount }}').perPod).toBe(false);
    expect(parseTemplate('/{{ .Labels.app }}').perPod).toBe(true);
    expect(parseTemplate('/{{ .PodUID }}').perPod).toBe(true);
  });

  it('whatever a value is, the segments of the rendered path are those of the template', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.constantFrom('.', '..', 'a/b', '%2f', 'ok')), (value) => {
        const rendered = parseTemplate('/a/{{ .Labels.x }}/b').render({ ...pod, labels: { x: value } }, 'id');
        if (!rendered.ok) return;
        expect(rendered.text).toBe(`/a/${value}/b`);
        expect(rendered.text.split('/')).toHaveLength(4);
        expect(() => checkSpiffePath(rendered.text)).not.toThrow();
        expect(spiffeId('example.org', rendered.text).path).toBe(rendered.text);
      }),
    );
  });

  it('is total: any text is a template or has problems', () => {
    fc.assert(
      fc.property(
        fc
          .array(
            fc.oneof(fc.string(), fc.constantFrom('{{', '}}', '.Labels', 'index ', '"', '.Namespace', ' ')),
          )
          .map((pieces) => pieces.join('')),
        (any) => {
          if (templateProblems(any).length === 0) parseTemplate(any).render(pod, 'id');
          else expect(() => parseTemplate(any)).toThrow(TemplateError);
        },
      ),
    );
  });
});
