import { sql, type Transaction } from 'kysely'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { Agent } from '../../spiffe/agent.ts'
import type { Entry } from '../../spiffe/entry.ts'
import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { ServiceEndpoint } from '../../spiffe/service-endpoint.ts'
import type { Service } from '../../spiffe/service.ts'
import type { Revocation } from '../../spiffe/revocation.ts'
import type { Schema } from './schema.ts'

/**
 * What a change is about: an agent by SPIFFE ID, a bundle or a federation relationship by trust domain, anything else by id; or the
 * authorities, or the policies, as a whole.
 */
export type ChangeKey =
  | readonly [kind: 'entry' | 'agent' | 'bundle' | 'federation' | 'revocation' | 'service' | 'endpoint', key: string]
  | readonly [kind: 'authorities' | 'policies' | 'everything']

/** More keys than this in one transaction: reading everything anew is cheaper. */
const mostKeys = 20_000

/** Notes what a transaction changes, for the log. */
export class ChangeSet {
  readonly #keys: ChangeKey[] = []
  #authorities = false
  #policies = false

  entries (entries: Iterable<Pick<Entry, 'id'>>): void {
    for (const { id } of entries) this.#keys.push(['entry', id])
  }

  agent ({ id }: Pick<Agent, 'id'>): void { this.#keys.push(['agent', id]) }
  bundle ({ trustDomain }: Pick<Bundle, 'trustDomain'>): void { this.#keys.push(['bundle', trustDomain]) }
  federation ({ trustDomain }: Pick<FederationRelationship, 'trustDomain'>): void { this.#keys.push(['federation', trustDomain]) }

  services (services: Iterable<Pick<Service, 'id'>>): void {
    for (const { id } of services) this.#keys.push(['service', id])
  }

  endpoints (endpoints: Iterable<Pick<ServiceEndpoint, 'id'>>): void {
    for (const { id } of endpoints) this.#keys.push(['endpoint', id])
  }

  revocation ({ id }: Pick<Revocation, 'id'>): void { this.#keys.push(['revocation', id]) }
  authorities (): void { this.#authorities = true }
  policies (): void { this.#policies = true }

  get empty (): boolean { return this.#keys.length === 0 && !this.#authorities && !this.#policies }

  get keys (): readonly ChangeKey[] {
    if (this.#keys.length > mostKeys) return [['everything']]
    const wholes: readonly ChangeKey[] = [
      ...this.#authorities ? [['authorities'] as const] : [], ...this.#policies ? [['policies'] as const] : []
    ]
    return wholes.length === 0 ? this.#keys : [...wholes, ...this.#keys]
  }
}

/** The last statement of a changing transaction: from here to its commit no other may commit. */
export async function appendChanges (trx: Transaction<Schema>, kind: 'sqlite' | 'postgres', changes: ChangeSet, at: Date): Promise<void> {
  const keys = JSON.stringify(changes.keys)
  if (kind === 'postgres') {
    await sql`with head as (update log_head set number = number + 1 returning number)
      insert into change_log (number, changed_at, keys) select number, ${at.getTime()}::bigint, ${keys}::text from head`.execute(trx)
    return
  }
  const { number } = await trx.updateTable('log_head').set(eb => ({ number: eb('number', '+', 1) })).returning('number')
    .executeTakeFirstOrThrow()
  await trx.insertInto('change_log').values({ number, changed_at: at.getTime(), keys }).execute()
}
