import type { Transaction } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import { type Agent, agentBanned, attestedBefore } from '../../spiffe/agent.ts'
import { normalizeSelectors } from '../../spiffe/selector.ts'
import type { AttestOptions } from '../agent-store.ts'
import { refusalOf } from '../issued-svid-store.ts'
import { checkAgentVersion, decodeAgent, encodeAgent } from './agent-rows.ts'
import { chunks, rowsPerInsert } from './chunks.ts'
import type { ChangeSet } from './change-set.ts'
import { differs } from './differs.ts'
import { GroupedWrites, type Outcome } from './grouped-writes.ts'
import type { AgentRow, Schema } from './schema.ts'
import { selectorKey } from './selector-columns.ts'
import type { SqlDatabase } from './sql-database.ts'
import { recordIssued } from './sql-issued-svid-store.ts'
import { takeJoinToken } from './sql-join-token-store.ts'

interface Attestation extends AttestOptions { readonly agent: Agent }

interface Deciding {
  readonly trx: Transaction<Schema>
  readonly changes: ChangeSet
  readonly now: Date
  /** Of the group's agents, as they are now. */
  readonly current: Map<string, AgentRow>
}

/**
 * Attestations: the record of the SVID, the join token and the agent's row, of all that come at the same time in one transaction. Each is
 * decided before anything of it is written, but for the record: of an SVID that nobody gets it harms nobody.
 */
export class GroupedAttestations {
  readonly #database: SqlDatabase
  readonly #clock: Clock
  readonly #writes = new GroupedWrites<Attestation, Agent>(group => this.#write(group))

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  attest (attestation: Attestation): Promise<Agent> { return this.#writes.ask(attestation) }

  #write (group: readonly Attestation[]): Promise<Array<Outcome<Agent>>> {
    const now = this.#clock.now()
    return this.#database.change(now, async (trx, changes) => {
      // First of all: who revokes holds this table, and then agents.
      const refused = await recordIssued(trx, group.flatMap(({ issued }) => issued ?? []), now)
      const ids = [...new Set(group.map(({ agent }) => agent.id))]
      const rows = await this.#database.locked(trx.selectFrom('agents').selectAll().where('id', 'in', ids).orderBy('row_id')).execute()
      const current = new Map(rows.map(row => [row.id, row]))
      const outcomes = new Map<Attestation, Outcome<Agent>>()
      // In one order, so that groups of several replicas that make the same agents do not wait for each other.
      for (const one of group.toSorted((a, b) => a.agent.id < b.agent.id ? -1 : a.agent.id > b.agent.id ? 1 : 0)) {
        const why = one.issued && refused.get(one.issued)
        const refusal = one.issued && why && refusalOf(one.issued, why)
        outcomes.set(one, refusal === undefined ? await decide(one, { trx, changes, now, current }) : { refusal })
      }
      return group.map(one => outcomes.get(one) as Outcome<Agent>)
    })
  }
}

/** What comes before the first write may refuse; what comes after it fails the whole transaction. */
async function decide (attestation: Attestation, { trx, changes, now, current }: Deciding): Promise<Outcome<Agent>> {
  const { agent, joinToken, onlyOnce = false } = attestation
  const before = current.get(agent.id)
  if (before?.banned === 1) return { refusal: agentBanned(agent.id) }
  if (before !== undefined && onlyOnce) return { refusal: attestedBefore(agent.id) }
  let after: Agent
  try {
    after = {
      ...agent,
      selectors: normalizeSelectors(agent.selectors),
      newSerialNumber: undefined,
      newExpiresAt: undefined,
      banned: false,
      agentVersion: checkAgentVersion(agent.agentVersion || (before?.agent_version ?? ''))
    }
  } catch (refusal) {
    return { refusal }
  }
  const refusal = joinToken === undefined ? undefined : await takeJoinToken(trx, joinToken, now)
  if (refusal !== undefined) return { refusal }
  if (before !== undefined && !differs(before, encodeAgent(after))) return { result: decodeAgent(before) }
  const row = await write(trx, before?.row_id, after)
  current.set(row.id, row)
  changes.agent(after)
  return { result: decodeAgent(row) }
}

async function write (trx: Transaction<Schema>, rowId: number | undefined, agent: Agent): Promise<AgentRow> {
  const columns = encodeAgent(agent)
  const row = rowId === undefined
    ? await trx.insertInto('agents').values(columns).returningAll().executeTakeFirstOrThrow()
    : await trx.updateTable('agents').set(columns).where('row_id', '=', rowId).returningAll().executeTakeFirstOrThrow()
  if (rowId !== undefined) await trx.deleteFrom('agent_selectors').where('agent_row', '=', rowId).execute()
  const members = agent.selectors.map(selector => ({ agent_row: row.row_id, selector_key: selectorKey(selector) }))
  for (const chunk of chunks(members, rowsPerInsert)) await trx.insertInto('agent_selectors').values(chunk).execute()
  return row
}
