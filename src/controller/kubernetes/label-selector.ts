import { z } from 'zod'

const expression = z.strictObject({
  key: z.string().min(1, 'must not be empty'),
  operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
  values: z.array(z.string()).nullish()
}).refine(({ operator, values }) => (operator === 'In' || operator === 'NotIn') === ((values ?? []).length > 0),
  'In and NotIn need values, the others have none')

/** `metav1.LabelSelector`; one without requirements selects everything. */
export const labelSelectorSchema = z.strictObject({
  matchLabels: z.record(z.string(), z.string()).nullish(),
  matchExpressions: z.array(expression).nullish()
})

export type LabelSelector = z.output<typeof labelSelectorSchema>

type Labels = Readonly<Record<string, string>>

/** All requirements hold. A label that is not there is in no list, so `NotIn` holds for it. */
export function selects ({ matchLabels, matchExpressions }: LabelSelector, labels: Labels): boolean {
  const has = (key: string) => Object.hasOwn(labels, key)
  return Object.entries(matchLabels ?? {}).every(([key, value]) => has(key) && labels[key] === value) &&
    (matchExpressions ?? []).every(({ key, operator, values }) => {
      if (operator === 'Exists') return has(key)
      if (operator === 'DoesNotExist') return !has(key)
      const isIn = has(key) && (values ?? []).includes(labels[key] as string)
      return operator === 'In' ? isIn : !isIn
    })
}
