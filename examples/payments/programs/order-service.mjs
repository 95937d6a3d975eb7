// Takes orders and pays them. It may pay, and nothing else; that it also tries to delete shows what happens then.
import { run } from './caller.mjs';

await run([
  ['POST', '/api/payments'],
  ['DELETE', '/api/payments/1'],
]);
