import { isRecord } from '../kubernetes/kube-object.ts'

/** `metav1.Condition`. */
export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False'
  readonly reason: string
  readonly message: string
  readonly observedGeneration: number
  /** RFC 3339. */
  readonly lastTransitionTime: string
}

/** Whether a resource does what it says: all that it declares is on the server. */
export interface Readiness {
  readonly ready: boolean
  /** One word, stable. */
  readonly reason: ReadyReason
  readonly message: string
}

/**
 * `Reconciled`; `Malformed`: the spec cannot be read; `RenderFailed`: some pods get no entry, since what they say makes none; `Refused`: by
 * the server; `Foreign`: what it declares is there already, and somebody else's; `Masked`: an older resource declares the same.
 */
export type ReadyReason = 'Reconciled' | 'Malformed' | 'RenderFailed' | 'Refused' | 'Foreign' | 'Masked'

const longestMessage = 1_024

/**
 * The conditions of a resource with `Ready` in them; those of others stay as they are.
 * @param stored as the resource has them
 */
export function conditionsOf (
  stored: unknown, { ready, reason, message }: Readiness, observedGeneration: number, now: Date
): readonly Readonly<Record<string, unknown>>[] {
  const conditions = (Array.isArray(stored) ? stored : []).filter(isRecord)
  const before = conditions.find(({ type }) => type === 'Ready')
  const status = ready ? 'True' : 'False'
  const since = before?.['status'] === status ? before['lastTransitionTime'] : undefined
  const condition: Condition = {
    type: 'Ready',
    status,
    reason,
    message: message.slice(0, longestMessage),
    observedGeneration,
    lastTransitionTime: typeof since === 'string' ? since : `${now.toISOString().slice(0, 19)}Z`
  }
  return [...conditions.filter(({ type }) => type !== 'Ready'), { ...condition }]
}

/** What `Ready` says in these conditions. */
export function readyIn (conditions: unknown): { readonly status: unknown, readonly reason: unknown } | undefined {
  const found = (Array.isArray(conditions) ? conditions : []).filter(isRecord).find(({ type }) => type === 'Ready')
  return found && { status: found['status'], reason: found['reason'] }
}
