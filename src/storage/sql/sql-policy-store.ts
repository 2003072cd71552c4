import type { Kysely } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import {
  bytesOf, policyHistoryLength, type PolicyDocumentText, type PolicyVersion, type PolicyVersionDraft, type PolicyVersionFacts
} from '../../spiffe/policy-version.ts'
import type { PolicyOutcome, PolicyStore } from '../policy-store.ts'
import { decodePolicyFacts, decodePolicyVersion, encodePolicyTexts, encodePolicyVersion, policyFactColumns } from './policy-rows.ts'
import type { PolicyVersionRow, Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlPolicyStore implements PolicyStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async apply (draft: PolicyVersionDraft, replaces: number): Promise<PolicyOutcome> {
    const texts = await encodePolicyTexts(draft.texts)
    const now = this.#clock.now()
    return await this.#database.change(now, async (trx, changes) => {
      const row = await readActive(trx)
      const active = row === undefined ? undefined : await decodePolicyVersion(row)
      if ((active?.number ?? 0) !== replaces) throw conflict(active, replaces)
      if (active !== undefined && isSame(active.texts, draft.texts)) return { version: active, changed: false }
      const version: PolicyVersion = {
        ...draft, number: replaces + 1, parent: replaces, appliedAt: now, documents: draft.texts.length, bytes: bytesOf(draft.texts)
      }
      // A writer that comes in between takes the number: the transaction begins again and finds its version active.
      await trx.insertInto('policy_versions').values(encodePolicyVersion(version, texts)).execute()
      await trx.deleteFrom('policy_versions').where('number', '<=', version.number - policyHistoryLength).execute()
      changes.policies()
      return { version, changed: true }
    })
  }

  async active (): Promise<PolicyVersion | undefined> {
    const row = await this.#database.read(readActive)
    return row === undefined ? undefined : await decodePolicyVersion(row)
  }

  async get (number: number): Promise<PolicyVersion | undefined> {
    const row = await this.#database.read(db =>
      db.selectFrom('policy_versions').selectAll().where('number', '=', number).executeTakeFirst())
    return row === undefined ? undefined : await decodePolicyVersion(row)
  }

  async list (): Promise<readonly PolicyVersionFacts[]> {
    const rows = await this.#database.read(db => db.selectFrom('policy_versions').select(policyFactColumns)
      .orderBy('number', 'desc').limit(policyHistoryLength).execute())
    return rows.map(decodePolicyFacts)
  }
}

/** The newest version. */
export async function readActive (db: Kysely<Schema>): Promise<PolicyVersionRow | undefined> {
  return await db.selectFrom('policy_versions').selectAll().orderBy('number', 'desc').limit(1).executeTakeFirst()
}

function isSame (a: readonly PolicyDocumentText[], b: readonly PolicyDocumentText[]): boolean {
  return a.length === b.length && a.every(({ name, text }, index) => name === b[index]?.name && text === b[index].text)
}

function conflict (active: PolicyVersionFacts | undefined, replaces: number): SpiffeError {
  const now = active === undefined
    ? 'no version is active'
    : `version ${active.number} of ${active.appliedBy}, applied ${active.appliedAt.toISOString()}, is active`
  return new SpiffeError('policy_conflict', `${now}, and ${replaces === 0 ? 'none' : `version ${replaces}`} was to be replaced`)
}
