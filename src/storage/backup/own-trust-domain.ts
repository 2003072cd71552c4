import type { Transaction } from 'kysely'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { trustDomainOf } from '../../spiffe/spiffe-id.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { decodeBundle } from '../sql/bundle-rows.ts'
import type { BundleRow, Schema } from '../sql/schema.ts'

/**
 * Whose database it is. Only the configuration says so; the database tells by the bundle that holds its own authorities, else by its agents
 * and entries. Empty while there is none of them.
 */
export async function readTrustDomain (trx: Transaction<Schema>): Promise<string> {
  const authorities = await trx.selectFrom('authorities').select(['authority_id', 'certificate']).execute()
  const keyIds = new Set(authorities.map(row => row.authority_id))
  const certificates = new Set(authorities.flatMap(({ certificate }) => certificate === null ? [] : [hex(certificate)]))
  const isOwn = (row: BundleRow) => {
    const { x509Authorities, jwtAuthorities } = decodeBundle(row)
    return x509Authorities.some(({ certificate }) => certificates.has(hex(certificate))) ||
      jwtAuthorities.some(({ keyId }) => keyIds.has(keyId))
  }
  if (authorities.length > 0) {
    for (let after = 0; ;) {
      const row = await trx.selectFrom('bundles').selectAll().where('row_id', '>', after).orderBy('row_id').limit(1).executeTakeFirst()
      if (row === undefined) break
      if (isOwn(row)) return row.trust_domain
      after = row.row_id
    }
  }
  const agent = await trx.selectFrom('agents').select('id').orderBy('row_id').limit(1).executeTakeFirst()
  const entry = await trx.selectFrom('entries').select('parent_id as id').orderBy('row_id').limit(1).executeTakeFirst()
  const { id } = agent ?? entry ?? {}
  return id === undefined ? '' : trustDomainOf(id as SpiffeId)
}

/** @param known each with what to call it; empty ones say nothing @throws {SpiffeError} `trust_domain_differs` */
export function requireSameTrustDomain (known: Readonly<Record<string, string | undefined>>): void {
  const said = Object.entries(known).filter(([, trustDomain]) => trustDomain !== undefined && trustDomain !== '')
  if (new Set(said.map(([, trustDomain]) => trustDomain)).size < 2) return
  const facts = said.map(([what, trustDomain]) => `the ${what} is of trust domain ${trustDomain}`)
  throw new SpiffeError('trust_domain_differs', facts.join(', '))
}

function hex (bytes: Uint8Array): string { return Buffer.from(bytes).toString('hex') }
