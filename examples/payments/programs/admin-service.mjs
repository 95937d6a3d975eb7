// Looks after payments: it may read, make and delete them.
import { run } from './caller.mjs';

await run([
  ['GET', '/api/payments'],
  ['POST', '/api/payments'],
  ['DELETE', '/api/payments/1'],
]);
