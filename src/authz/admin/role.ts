import { isReservedId } from '../../spiffe/member-id.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { matches, type Match } from '../policy/match.ts'
import type { AdminVerb } from './verb.ts'

/**
 * What a role's holders may touch. A key that is left out narrows no reading, and allows nothing else.
 * Several values of one key are alternatives; all keys together must fit.
 */
export interface AdminScope {
  /** SPIFFE IDs of entries, of those who serve a service, of minted and revoked SVIDs, of join tokens' aliases. */
  readonly ids?: readonly Match[] | undefined
  /** Parents of entries; those of node aliases aside. */
  readonly parents?: readonly Match[] | undefined
  readonly agents?: readonly Match[] | undefined
  /** Each selector of an entry, as `type:value`. */
  readonly selectors?: readonly Match[] | undefined
  /** Each of these, as `type:value`, must be among an entry's selectors. */
  readonly requiredSelectors: readonly string[]
  /** Other trust domains: whose bundles, with whom entries federate, whose workloads a service may let in. */
  readonly federatesWith?: readonly Match[] | undefined
  /** Of entries and minted SVIDs. */
  readonly dnsNames?: readonly Match[] | undefined
  readonly serviceNames?: readonly Match[] | undefined
}

/** Who may administer what. */
export interface AdminRole {
  readonly name: string
  readonly members: readonly Match[]
  /** Of processes that call over the admin socket. */
  readonly uids: readonly number[]
  readonly verbs: ReadonlySet<AdminVerb>
  readonly scope: AdminScope
}

/** All roles of a server, and who holds them. */
export class AdminRoles {
  readonly all: readonly AdminRole[]

  constructor (all: readonly AdminRole[]) { this.all = all }

  /** Agents and servers hold none, whatever a pattern says: their IDs come by attestation. */
  ofId (id: SpiffeId): readonly AdminRole[] {
    return isReservedId(id) ? [] : this.all.filter(({ members }) => members.some(member => matches(member, id)))
  }

  ofUid (uid: number): readonly AdminRole[] { return this.all.filter(({ uids }) => uids.includes(uid)) }
}
