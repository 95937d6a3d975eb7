import { describe, expect, it } from '@jest/globals';

import { processSelectorMatches, processSelectorProblem, processSelectorsOverlap } from './process.js';

const facts = {
  uid: 1000,
  gid: 100,
  supplementaryGids: [4, 27],
  path: '/usr/bin/node',
  sha256: 'ab'.repeat(32),
};

describe('a process selector', () => {
  it.each([
    [{ uid: 1000 }, true],
    [{ uid: 0 }, false],
    [{ gid: 100, supplementaryGid: 27 }, true],
    [{ supplementaryGid: 100 }, false],
    [{ path: '/usr/bin/node' }, true],
    [{ path: '/usr/bin/node2' }, false],
    [{ sha256: 'AB'.repeat(32) }, true],
    [{ sha256: 'cd'.repeat(32) }, false],
    [{ uid: 1000, path: '/bin/sh' }, false],
    [{}, false],
  ])('%j matches: %s', (selector, wanted) => {
    expect(processSelectorMatches(selector, facts)).toBe(wanted);
  });

  it('does not match what could not be read', () => {
    expect(processSelectorMatches({ path: '/x' }, { uid: 0, gid: 0, supplementaryGids: [] })).toBe(false);
  });

  it.each([
    [{ uid: 1 }, { uid: 2 }, false],
    [{ uid: 1 }, { uid: 1 }, true],
    [{ uid: 1 }, { path: '/x' }, true],
    [{ supplementaryGid: 1 }, { supplementaryGid: 2 }, true],
    [{ uid: 1, path: '/x' }, { uid: 1, path: '/y' }, false],
  ])('%j and %j could select one process: %s', (one, other, wanted) => {
    expect(processSelectorsOverlap(one, other)).toBe(wanted);
    expect(processSelectorsOverlap(other, one)).toBe(wanted);
  });

  it.each([{}, { uid: 1.5 }, { gid: 2 ** 32 }, { path: '' }, { sha256: 'xy' }])(
    '%j is refused',
    (selector) => {
      expect(processSelectorProblem(selector)).toContain('spec.processSelector');
    },
  );
});
