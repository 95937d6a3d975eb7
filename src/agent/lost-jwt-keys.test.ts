import { expect, it } from '@jest/globals';
import { LostJwtKeys } from './lost-jwt-keys.js';

it('tells of those that were in the bundle and are in it no more, until they are back', () => {
  const lost = new LostJwtKeys();
  expect(lost.asOf(['a'])).toEqual([]);
  expect(lost.asOf(['a', 'b'])).toEqual([]);
  expect(lost.asOf(['b'])).toEqual(['a']);
  // Remembered, whatever comes after.
  expect(lost.asOf(['b'])).toEqual(['a']);
  expect(lost.asOf(['a'])).toEqual(['b']);
});

it('forgets them, the oldest first, when there are very many', () => {
  const lost = new LostJwtKeys();
  for (let id = 0; id < 200; id++) lost.asOf([`k${id}`]);
  const last = lost.asOf(['k200']);
  expect([last.length, last.at(0), last.at(-1)]).toEqual([64, 'k136', 'k199']);
});
