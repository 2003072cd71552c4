import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'

/** Documents of `own.test`, from rules and whatever else there is. */
export function policiesOf (rules: readonly object[], { defaultAction = 'deny', more = [] as readonly object[] } = {}): PolicySet {
  return readPolicies([{
    name: 'test',
    text: JSON.stringify([
      { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'own.test', defaultAction },
      ...rules.length === 0 ? [] : [{ apiVersion: 'assay/v1', kind: 'Policy', name: 'p', rules }],
      ...more.map(document => ({ apiVersion: 'assay/v1', ...document }))
    ])
  }])
}
