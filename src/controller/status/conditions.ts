import { isRecord } from '../kubernetes/kube-object.ts'

/** What a condition says, without since when. */
export interface Saying {
  readonly type: 'Ready' | 'InUse'
  readonly status: 'True' | 'False' | 'Unknown'
  /** One word, stable. */
  readonly reason: ReadyReason | UseReason
  readonly message: string
}

/** `metav1.Condition`. */
export interface Condition extends Saying {
  readonly observedGeneration: number
  /** RFC 3339. */
  readonly lastTransitionTime: string
}

/** Whether a resource does what it says: all that it declares is on the server. */
export interface Readiness {
  readonly ready: boolean
  readonly reason: ReadyReason
  readonly message: string
}

/**
 * `Reconciled`; `Malformed`: the spec cannot be read; `RenderFailed`: some pods get no entry, since what they say makes none; `Refused`: by
 * the server; `Foreign`: what it declares is there already, and somebody else's; `Masked`: an older resource declares the same.
 */
export type ReadyReason = 'Reconciled' | 'Malformed' | 'RenderFailed' | 'Refused' | 'Foreign' | 'Masked'

/**
 * `Served`: by all live agents that should; `NoEntries`: it declares none; `NotSet`: some are not on the server; `NoAgent`: of some, nobody
 * that could serve them lives; `NoSvid`: of some, an agent could not have the SVID signed; `Waiting`: for an agent's word. Not known:
 * `ServerCannotTell`, which is not Assay's; `ServerAway`; `NotAskedYet`.
 */
export type UseReason =
  'Served' | 'NoEntries' | 'NotSet' | 'NoAgent' | 'NoSvid' | 'Waiting' | 'ServerCannotTell' | 'ServerAway' | 'NotAskedYet'

const longestMessage = 1_024

export function readySaying ({ ready, reason, message }: Readiness): Saying {
  return { type: 'Ready', status: ready ? 'True' : 'False', reason, message }
}

/**
 * The conditions of a resource with these in them; those of others stay as they are.
 * @param stored as the resource has them
 */
export function conditionsOf (
  stored: unknown, sayings: readonly Saying[], observedGeneration: number, now: Date
): readonly Readonly<Record<string, unknown>>[] {
  const conditions = (Array.isArray(stored) ? stored : []).filter(isRecord)
  const others = conditions.filter(({ type }) => !sayings.some(saying => saying.type === type))
  return [...others, ...sayings.map(({ type, status, reason, message }) => {
    const before = conditions.find(condition => condition['type'] === type)
    const since = before?.['status'] === status ? before['lastTransitionTime'] : undefined
    const condition: Condition = {
      type,
      status,
      reason,
      message: message.slice(0, longestMessage),
      observedGeneration,
      lastTransitionTime: typeof since === 'string' ? since : `${now.toISOString().slice(0, 19)}Z`
    }
    return { ...condition }
  })]
}

/** What `Ready` says in these conditions. */
export function readyIn (conditions: unknown): { readonly status: unknown, readonly reason: unknown } | undefined {
  const found = (Array.isArray(conditions) ? conditions : []).filter(isRecord).find(({ type }) => type === 'Ready')
  return found && { status: found['status'], reason: found['reason'] }
}
