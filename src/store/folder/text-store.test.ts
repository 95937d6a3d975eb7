import { describe, expect, it } from '@jest/globals';
import { openTextStore } from './text-store.js';

const TEXT = `apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: signet.dev/v1alpha1
kind: AccessPolicy
metadata:
  name: orders
  namespace: shop
spec:
  target: {}
  rules:
    - name: first
      from:
        - anyone: true
`;

describe('a store over a text', () => {
  it('holds what the text says, and says where', () => {
    const store = openTextStore('stdin', TEXT, 'none');
    expect(store.problems.value).toEqual([]);
    expect(store.list('AccessPolicy').map(({ metadata }) => metadata.name)).toEqual(['orders']);
    const place = (...path: (string | number)[]) => store.placeOf('AccessPolicy', 'shop/orders', path);
    expect(place('spec', 'rules', 0, 'from')).toEqual({ file: 'stdin', line: 14, column: 7 });
    // A field that is not there stands where the one above it does.
    expect(place('spec', 'rules', 0, 'when', 'token')).toEqual({ file: 'stdin', line: 13, column: 7 });
    expect(store.placeOf('Namespace', 'shop', ['metadata'])).toEqual({ file: 'stdin', line: 1, column: 1 });
    expect(store.placeOf('AccessPolicy', 'shop/missing', [])).toBeUndefined();
  });

  it('names the text, line and column of what is wrong', () => {
    const { problems } = openTextStore('stdin', TEXT.replace('anyone', 'anyon'), 'none');
    expect(problems.value).toContainEqual(
      expect.objectContaining({ file: 'stdin', line: 15, column: 11, path: 'spec.rules[0].from[0].anyon' }),
    );
  });
});
