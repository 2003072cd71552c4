import type { Transaction } from 'kysely'
import type { Bundle } from '../../spiffe/bundle.ts'
import { removeJwtAuthority, removeX509Authority, taintJwtAuthority, taintX509Authority } from '../../spiffe/bundle-change.ts'
import { decodeBundle, encodeBundle } from '../sql/bundle-rows.ts'
import type { AgentRow, AuthorityRow, BundleRow, Schema } from '../sql/schema.ts'
import { decodeSelectors, selectorKey } from '../sql/selector-columns.ts'

/** Who is not to be trusted any more. */
export interface Revocations {
  readonly bannedAgents: readonly AgentRow[]
  /** Tainted and revoked ones count. */
  readonly authorities: readonly AuthorityRow[]
}

export async function readRevocations (trx: Transaction<Schema>): Promise<Revocations> {
  return {
    bannedAgents: await trx.selectFrom('agents').selectAll().where('banned', '=', 1).orderBy('row_id').execute(),
    authorities: await trx.selectFrom('authorities').selectAll().where('state', 'in', ['tainted', 'revoked']).orderBy('row_id').execute()
  }
}

/** Has the database say all of it; whatever else it revokes stays revoked. */
export async function applyRevocations (trx: Transaction<Schema>, revocations: Revocations, trustDomain: string): Promise<void> {
  for (const agent of revocations.bannedAgents) await ban(trx, agent)
  const distrusted = revocations.authorities.filter(({ state }) => state === 'tainted' || state === 'revoked')
  for (const authority of distrusted) await distrust(trx, authority)
  const row = await readOwnBundle(trx, trustDomain)
  if (row === undefined) return
  const before = decodeBundle(row)
  const bundle = distrusted.reduce(withdraw, before)
  if (bundle !== before) await writeOwnBundle(trx, { ...encodeBundle(bundle), row_id: row.row_id })
}

async function ban (trx: Transaction<Schema>, row: AgentRow): Promise<void> {
  const { row_id: _, ...agent } = row
  const blank = { banned: 1, serial_number: '', new_serial_number: null, new_expires_at: null }
  const { numUpdatedRows } = await trx.updateTable('agents').set(blank).where('id', '=', agent.id).executeTakeFirstOrThrow()
  if (numUpdatedRows > 0n) return
  const { row_id: agentRow } = await trx.insertInto('agents').values({ ...agent, ...blank }).returning('row_id').executeTakeFirstOrThrow()
  for (const selector of decodeSelectors(agent.selectors)) {
    await trx.insertInto('agent_selectors').values({ agent_row: agentRow, selector_key: selectorKey(selector) }).execute()
  }
}

async function distrust (trx: Transaction<Schema>, row: AuthorityRow): Promise<void> {
  const { row_id: _, ...authority } = row
  const { state } = authority
  await trx.insertInto('authorities').values(authority)
    .onConflict(conflict => conflict.columns(['kind', 'authority_id']).doUpdateSet({ state }).where('authorities.state', '<>', 'revoked'))
    .execute()
}

function withdraw (bundle: Bundle, { kind, authority_id: id, certificate, state }: AuthorityRow): Bundle {
  if (kind === 'jwt' || kind === 'upstream-jwt') return state === 'revoked' ? removeJwtAuthority(bundle, id) : taintJwtAuthority(bundle, id)
  if (certificate === null) return bundle
  return state === 'revoked' ? removeX509Authority(bundle, certificate) : taintX509Authority(bundle, certificate)
}

/** The trust domain's own bundle, if there is one. */
export async function readOwnBundle (trx: Transaction<Schema>, trustDomain: string): Promise<BundleRow | undefined> {
  return await trx.selectFrom('bundles').selectAll().where('trust_domain', '=', trustDomain).executeTakeFirst()
}

/** In place of the one that is there, if there is one. */
export async function writeOwnBundle (trx: Transaction<Schema>, row: BundleRow): Promise<void> {
  const { row_id: _, ...bundle } = row
  await trx.insertInto('bundles').values(bundle).onConflict(conflict => conflict.column('trust_domain').doUpdateSet(bundle)).execute()
}
