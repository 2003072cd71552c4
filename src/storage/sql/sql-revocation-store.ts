import { randomUUID } from 'node:crypto'
import { sql, type Transaction } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { CertificateDigest, Revocation } from '../../spiffe/revocation.ts'
import { isStorableText } from '../../spiffe/storable-text.ts'
import type { RevocationOrder, RevocationStore } from '../revocation-store.ts'
import type { ChangeSet } from './change-set.ts'
import { readOfAgent, readWithWord } from './issued-svid-rows.ts'
import { decodeRevocation, encodeRevocation } from './revocation-rows.ts'
import type { RevocationRow, Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

const longestReason = 1_000

export class SqlRevocationStore implements RevocationStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async revoke (order: RevocationOrder): Promise<Revocation> {
    checkReason(order.reason)
    const now = this.#clock.now()
    return this.#database.change(now, async (trx, changes) => {
      if (order.kind !== 'svid' && this.#database.kind === 'postgres') {
        // Waits for records that are being written and keeps later ones out: those see this revocation (`IssuedSvidStore.record`).
        await sql`lock table issued_svids in share mode`.execute(trx)
      }
      const isAgent = order.kind === 'node' && await ban(trx, changes, order.subject)
      const found = await certificatesOf(trx, this.#database.kind, order, now)
      if (order.kind === 'node' && !isAgent && found.length === 0) {
        throw new SpiffeError('agent_not_found', 'agent not found', { details: { id: order.subject } })
      }
      const before = await this.#standing(trx, order, now)
      const latest = found.reduce((latest, { notAfter }) => Math.max(latest, notAfter), before?.expires_at ?? 0)
      const known = before === undefined ? [] : decodeRevocation(before).certificateDigests
      const revocation: Revocation = {
        id: before?.id ?? randomUUID(),
        kind: order.kind,
        subject: order.subject,
        certificateDigests: [...new Set([...known, ...found.map(({ digest }) => digest)])].toSorted(),
        reason: order.reason,
        revokedBy: order.revokedBy,
        revokedAt: before === undefined ? now : new Date(before.revoked_at),
        expiresAt: new Date(order.kind === 'svid' ? latest : Math.max(latest, order.until.getTime()))
      }
      const { id, ...columns } = encodeRevocation(revocation)
      await trx.insertInto('revocations').values({ id, ...columns })
        .onConflict(conflict => conflict.column('id').doUpdateSet(columns)).execute()
      changes.revocation(revocation)
      return revocation
    })
  }

  async list (): Promise<readonly Revocation[]> {
    const rows = await this.#database.read(db => db.selectFrom('revocations').selectAll().orderBy('revoked_at').orderBy('id').execute())
    return rows.map(decodeRevocation)
  }

  async lift (id: string): Promise<Revocation> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const row = await trx.deleteFrom('revocations').where('id', '=', id).returningAll().executeTakeFirst()
      if (row === undefined) throw new SpiffeError('revocation_not_found', 'no such revocation, or it has expired', { details: { id } })
      const revocation = decodeRevocation(row)
      changes.revocation(revocation)
      return revocation
    })
  }

  async prune (now: Date): Promise<readonly Revocation[]> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const rows = await trx.deleteFrom('revocations').where('expires_at', '<=', now.getTime()).returningAll().execute()
      const pruned = rows.map(decodeRevocation)
      for (const revocation of pruned) changes.revocation(revocation)
      return pruned
    })
  }

  /** The one that says the same already. */
  async #standing (trx: Transaction<Schema>, order: RevocationOrder, now: Date): Promise<RevocationRow | undefined> {
    const rows = await this.#database.locked(trx.selectFrom('revocations').selectAll()
      .where('kind', '=', order.kind).where('subject', '=', order.subject).where('expires_at', '>', now.getTime()).orderBy('id')).execute()
    return order.kind === 'svid' ? rows.find(row => decodeRevocation(row).certificateDigests.includes(order.digest)) : rows[0]
  }
}

interface FoundCertificate { readonly digest: CertificateDigest, readonly notAfter: number }

/** What is still valid of what was issued. */
async function certificatesOf (
  trx: Transaction<Schema>, kind: SqlDatabase['kind'], order: RevocationOrder, now: Date
): Promise<FoundCertificate[]> {
  if (order.kind === 'svid') return [{ digest: order.digest, notAfter: order.notAfter.getTime() }]
  const { subject } = order
  const issued = order.kind === 'node'
    ? await readOfAgent(trx, subject)
    : (await readWithWord(trx, kind, subject)).filter(({ spiffeId }) => spiffeId === subject)
  return issued.filter(({ notAfter }) => notAfter > now).map(({ digest, notAfter }) => ({ digest, notAfter: notAfter.getTime() }))
}

/** @returns whether there is such an agent */
async function ban (trx: Transaction<Schema>, changes: ChangeSet, id: Revocation['subject']): Promise<boolean> {
  const { numUpdatedRows } = await trx.updateTable('agents')
    .set({ banned: 1, serial_number: '', new_serial_number: null, new_expires_at: null }).where('id', '=', id).executeTakeFirstOrThrow()
  if (numUpdatedRows === 0n) return false
  changes.agent({ id })
  return true
}

function checkReason (reason: string): void {
  if (reason.length > longestReason) {
    throw new SpiffeError('argument_invalid', `reason has ${reason.length} characters, at most ${longestReason} are allowed`)
  }
  if (!isStorableText(reason)) throw new SpiffeError('argument_invalid', 'reason contains U+0000 or a lone surrogate')
}
