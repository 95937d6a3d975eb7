import type { ResourceType } from './resource-type.js';

/** The rule that is missing, as an admin adds it to a role. */
export function missingRule(
  { group, plural }: Pick<ResourceType, 'group' | 'plural'>,
  verbs: readonly string[],
  namespace?: string,
): string {
  const role = namespace === undefined || namespace === '' ? 'ClusterRole' : `Role in namespace ${namespace}`;
  const list = verbs.map((verb) => `"${verb}"`).join(', ');
  return `add to Signet's ${role}: {apiGroups: ["${group}"], resources: ["${plural}"], verbs: [${list}]}`;
}
