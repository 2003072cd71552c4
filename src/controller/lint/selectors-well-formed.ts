import type { Finding } from './finding.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { listOf, recordOf, textOf, type Raw } from './raw-fields.ts'

const labelKey = /^([a-z0-9]([a-z0-9.-]*[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/
const labelValue = /^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/

/** Label selectors that nothing can be matched against. */
export function selectorsWellFormed (manifest: Manifest): readonly Finding[] {
  const spec = recordOf(manifest.body['spec'])
  return ['namespaceSelector', 'podSelector'].flatMap(name => {
    const { matchLabels, matchExpressions } = recordOf(spec[name])
    const at = (path: readonly PropertyKey[], message: string) => findingAt(manifest, ['spec', name, ...path], 'value-malformed', message)
    return [
      ...Object.entries(recordOf(matchLabels)).flatMap(([key, value]) => faultsOf({ key, operator: 'In', values: [value] })
        .map(message => at(['matchLabels', key], `${name}: ${message}`))),
      ...listOf(matchExpressions).flatMap((one, index) => faultsOf(recordOf(one))
        .map(message => at(['matchExpressions', index], `${name}: ${message}`)))
    ]
  })
}

function faultsOf ({ key, operator, values }: Raw): readonly string[] {
  const list = listOf(values)
  const needsValues = operator === 'In' || operator === 'NotIn'
  return [
    ...labelKey.test(textOf(key)) ? [] : [`${JSON.stringify(key)} is no label`],
    ...needsValues || operator === 'Exists' || operator === 'DoesNotExist' ? [] : ['operators are In, NotIn, Exists and DoesNotExist'],
    ...needsValues && list.length === 0 ? [`${textOf(operator)} needs values`] : [],
    ...!needsValues && list.length > 0 ? [`${textOf(operator)} has no values`] : [],
    ...list.filter(value => typeof value !== 'string' || !labelValue.test(value))
      .map(value => `${JSON.stringify(value)} is no value of a label`)
  ]
}
