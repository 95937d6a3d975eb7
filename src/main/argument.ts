import { InvalidArgumentError } from 'commander';
import { SignetError } from '../lib/errors.js';

/** Reads the argument of an option, and has a mistake told as the mistake of that option. */
export function argument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (thrown) {
      throw new InvalidArgumentError(SignetError.from(thrown).message);
    }
  };
}
