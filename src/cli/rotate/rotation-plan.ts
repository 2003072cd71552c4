import type { Authority } from '../../wire/generated/cluster.ts'
import type { AuthorityKind } from '../authority/authority-calls.ts'

/** The authorities of one kind, by their IDs. */
export interface Slots {
  readonly active: string | undefined
  readonly prepared: string | undefined
  readonly old: { readonly id: string, readonly tainted: boolean } | undefined
}

export interface Goal {
  /** What must not sign any more and, unless it is a drill, must be in no bundle any more. */
  readonly leaving: ReadonlySet<string>
  /** Nothing is tainted or revoked. */
  readonly drill: boolean
}

export type RotationStep =
  | { readonly verb: 'prepare' }
  | { readonly verb: 'activate' | 'taint' | 'revoke', readonly authorityId: string }

export function slotsOf (authorities: readonly Authority[], kind: AuthorityKind): Slots {
  const find = (...states: readonly string[]) => authorities.find(authority => authority.kind === kind && states.includes(authority.state))
  const old = find('old', 'tainted')
  return {
    active: find('active')?.authorityId,
    prepared: find('prepared')?.authorityId,
    old: old && { id: old.authorityId, tainted: old.state === 'tainted' }
  }
}

/** Every authority there is: a thief of one key had the others within reach. A drill leaves alone what does not sign any more. */
export function allOf ({ active, prepared, old }: Slots, drill: boolean): string[] {
  return [drill ? undefined : old?.id, active, prepared].filter(id => id !== undefined)
}

/**
 * What is to be done next, told from the state alone: whoever begins or goes on does the same. An old authority goes first, since the next
 * activation would put it out of reach. `undefined`: the goal is reached.
 */
export function nextStep ({ active, prepared, old }: Slots, { leaving, drill }: Goal): RotationStep | undefined {
  if (!drill && old !== undefined && leaving.has(old.id)) return { verb: old.tainted ? 'revoke' : 'taint', authorityId: old.id }
  const successor = prepared !== undefined && !leaving.has(prepared) ? prepared : undefined
  if (active === undefined || leaving.has(active)) {
    return successor === undefined ? { verb: 'prepare' } : { verb: 'activate', authorityId: successor }
  }
  // What must go must not become active later.
  return !drill && prepared !== undefined && successor === undefined ? { verb: 'prepare' } : undefined
}

export function isSameStep (a: RotationStep | undefined, b: RotationStep | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
