import { SpiffeError } from '../../spiffe/errors.ts'
import type { GetStatusResponse } from '../../wire/generated/cluster.ts'
import { kindNames, type AuthorityKind } from '../authority/authority-calls.ts'
import { usage } from '../parse-flags.ts'
import { allOf, slotsOf, type Goal } from './rotation-plan.ts'

export interface RotateWish {
  readonly kind: AuthorityKind
  readonly drill: boolean
  /** Empty: every authority of the kind. */
  readonly authorityIds: readonly string[]
  /** How many sockets were given. */
  readonly servers: number
}

/**
 * What a rotation is to achieve.
 * @throws {SpiffeError} `authority_unknown` when nothing that was named is there, `authority_in_use` for a drill that would put a tainted
 * authority out of reach, `usage_invalid` where each replica has authorities of its own and several replicas were given
 */
export function goalOf ({ kind, drill, authorityIds, servers }: RotateWish, status: GetStatusResponse): Goal {
  const name = kindNames[kind]
  const slots = slotsOf(status.authorities, kind)
  const all = allOf(slots, false)
  if (all.length === 0) throw new SpiffeError('authority_unknown', `there is no ${name} authority`)
  if (servers > 1 && hasOwnAuthorities(status)) {
    throw usage('each replica has authorities of its own here: give the -socketPath of the one whose authority must go')
  }
  if (authorityIds.length > 0 && !authorityIds.some(id => all.includes(id))) {
    const ids = authorityIds.join(' ')
    throw new SpiffeError('authority_unknown', `no ${name} authority has the ID ${ids}: if it was revoked before, nothing is left to do`)
  }
  const { old } = slots
  if (drill && old?.tainted === true) {
    throw new SpiffeError('authority_in_use', `${name} authority ${old.id} is tainted: a drill would put it out of reach; revoke it first`)
  }
  const named = authorityIds.length > 0 ? authorityIds : allOf(slots, drill)
  // Somebody has decided that a tainted one must go, and the next activation would keep it.
  return { drill, leaving: new Set(old?.tainted === true ? [old.id, ...named] : named) }
}

/** Whether other replicas have authorities that this one cannot change. */
export function hasOwnAuthorities ({ datastore, sharedAuthorities, replicas }: GetStatusResponse): boolean {
  return datastore === 'postgres' && !sharedAuthorities && replicas.length > 1
}
