import type { ValueOperator } from './policy.js';
import type { CelRule } from './schema.js';

/** The operators that headers, parameters, claims and attributes share. */
export const valueOperators: Readonly<Record<ValueOperator, true>> = {
  In: true,
  NotIn: true,
  Exists: true,
  DoesNotExist: true,
};

/** Whether an operator is one that takes values; a missing operator is In. */
export const valuesRule: CelRule = {
  rule: "has(self.values) == (!has(self.operator) || !(self.operator in ['Exists', 'DoesNotExist']))",
  message: 'Exists and DoesNotExist take no values, every other operator needs them',
};
