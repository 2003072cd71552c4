import { listOf, recordOf, textOf, textsOf } from './raw-fields.ts'

/** What a label selector says of one label. */
interface Requirement {
  readonly key: string
  readonly operator: string
  readonly values: readonly string[]
}

/** `all`: everything; `all-but`: it only excludes, so that what is made later is meant too; `some`: it names labels that must be there. */
export type Breadth = 'all' | 'all-but' | 'some'

export function breadthOf (selector: unknown): Breadth {
  const requirements = requirementsOf(selector)
  if (requirements.length === 0) return 'all'
  return requirements.every(({ operator }) => operator === 'NotIn' || operator === 'DoesNotExist') ? 'all-but' : 'some'
}

export function matchesLabels (selector: unknown, labels: ReadonlyMap<string, string>): boolean {
  return requirementsOf(selector).every(({ key, operator, values }) => {
    const value = labels.get(key)
    switch (operator) {
      case 'In': return value !== undefined && values.includes(value)
      case 'NotIn': return value === undefined || !values.includes(value)
      case 'Exists': return value !== undefined
      default: return value === undefined
    }
  })
}

/** Whether no set of labels can satisfy both; `false` if that is not certain. */
export function excludeEachOther (a: unknown, b: unknown): boolean {
  const right = requirementsOf(b)
  return requirementsOf(a).some(one => right.some(other => one.key === other.key && (contradict(one, other) || contradict(other, one))))
}

function contradict (one: Requirement, other: Requirement): boolean {
  if (one.operator === 'In' && other.operator === 'In') return !one.values.some(value => other.values.includes(value))
  if (one.operator === 'In' && other.operator === 'NotIn') return one.values.every(value => other.values.includes(value))
  return (one.operator === 'In' || one.operator === 'Exists') && other.operator === 'DoesNotExist'
}

function requirementsOf (selector: unknown): readonly Requirement[] {
  const { matchLabels, matchExpressions } = recordOf(selector)
  return [
    ...Object.entries(recordOf(matchLabels)).map(([key, value]) => ({ key, operator: 'In', values: [textOf(value)] })),
    ...listOf(matchExpressions).map(recordOf).map(one => ({
      key: textOf(one['key']), operator: textOf(one['operator']), values: textsOf(one['values'])
    }))
  ]
}
