import { createHash } from 'node:crypto';
import type { Policy, Rule } from '../policy/model.js';

const known = new WeakMap<Policy, string>();

/** What a policy says to the workloads that it selects, as a digest: two policies that say the same have the same. */
export function fingerprint(policy: Policy): string {
  let text = known.get(policy);
  if (text === undefined) {
    const { tier, target, validity, problems, rules } = policy;
    const ports = target.ports === undefined ? undefined : [...target.ports].sort((a, b) => a - b);
    const said =
      problems === undefined ? [tier, ports, validity, rules.map(ruleText).sort()] : [tier, ports, 'broken'];
    text = createHash('sha256').update(JSON.stringify(said)).digest('base64');
    known.set(policy, text);
  }
  return text;
}

/** Names do not matter, nor does what a CEL condition is made of beside its text. */
function ruleText({ effect, from, to, when }: Rule): string {
  return JSON.stringify([effect, from, to, when], (key, value: unknown) => {
    if (value instanceof Set) return [...(value as ReadonlySet<string>)].sort();
    return key === 'grantedBy' ? (value as { readonly claim?: unknown }).claim : value;
  });
}

/** The policies of a list that change answers, each thing once, as one text. */
export function fingerprintAll(policies: readonly Policy[]): string {
  const texts = policies.filter(({ mode }) => mode === 'Enforce').map(fingerprint);
  return [...new Set(texts)].sort().join('\n');
}
