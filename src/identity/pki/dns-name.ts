import { dnsNameProblem } from '../spiffe/dns-name.js';
import { refuse } from './errors.js';

/** Throws PkiError `NameInvalid` unless the text may be signed as a DNS name (see spiffe/dns-name.ts). */
export function checkDnsName(name: string): void {
  const problem = dnsNameProblem(name);
  if (problem !== undefined) refuse('NameInvalid', `the DNS name ${problem}`);
}
