import type { Logger } from '../../runtime/logger.ts'
import { openToOverwrite, requireSchema } from './open-database.ts'
import { beginNewLife, claim } from './overwrite.ts'
import { readTrustDomain, requireSameTrustDomain } from './own-trust-domain.ts'
import { emptyTables } from './table-rows.ts'

export interface RenewOptions {
  readonly url: string
  /** Where it is known from elsewhere. */
  readonly trustDomain?: string | undefined
  readonly now: Date
  readonly log: Logger
}

/**
 * For a database that other tools have set back: its log begins a new epoch, and join tokens go, since they may have been used.
 * @returns the epoch, and what to call the database
 * @throws {SpiffeError} `datastore_in_use`, `datastore_older`, `datastore_*`, `trust_domain_differs`
 */
export async function renewEpoch ({ url, trustDomain, now, log }: RenewOptions): Promise<{ epoch: string, target: string }> {
  await using target = await openToOverwrite(url, log)
  return await target.database.once(async trx => {
    await requireSchema(trx, target)
    await claim(trx, target)
    requireSameTrustDomain({ configuration: trustDomain, database: await readTrustDomain(trx) })
    const { kind } = target.database
    await emptyTables(trx, kind, ['join_tokens'])
    const head = await trx.selectFrom('log_head').select(['epoch', 'number']).executeTakeFirstOrThrow()
    return { epoch: await beginNewLife(trx, { kind, ...head, leases: [], now }), target: target.name }
  })
}
