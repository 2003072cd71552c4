import { sql, type ExpressionBuilder, type ExpressionWrapper, type SqlBool } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import { type Agent, agentBanned } from '../../spiffe/agent.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { AgentFilter, AgentPage, AgentPruning, AgentRemoval, AgentStore, AttestOptions } from '../agent-store.ts'
import type { PageRequest } from '../page.ts'
import { checkAgentVersion, decodeAgent } from './agent-rows.ts'
import type { ChangeSet } from './change-set.ts'
import { chunks, rowsPerInsert } from './chunks.ts'
import { GroupedAgentChanges } from './grouped-agent-changes.ts'
import { GroupedAttestations } from './grouped-attestations.ts'
import { countKept, readChunks, readPage, type ReadRows } from './read-pages.ts'
import type { AgentRow, Schema } from './schema.ts'
import { selectorKeys } from './selector-columns.ts'
import { agentSelectorSet, setCondition } from './set-condition.ts'
import type { SqlDatabase } from './sql-database.ts'
import { deleteJoinTokenAliases } from './write-entries.ts'

const prunedAtOnce = 1_000

export class SqlAgentStore implements AgentStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock
  readonly #changes: GroupedAgentChanges
  readonly #attestations: GroupedAttestations

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
    this.#changes = new GroupedAgentChanges(database, clock, notFound)
    this.#attestations = new GroupedAttestations(database, clock)
  }

  attest (agent: Agent, options?: AttestOptions): Promise<Agent> { return this.#attestations.attest({ agent, ...options }) }

  async get (id: SpiffeId): Promise<Agent | undefined> {
    const row = await this.#database.read(db => db.selectFrom('agents').selectAll().where('id', '=', id).executeTakeFirst())
    return row === undefined ? undefined : decodeAgent(row)
  }

  async list (filter: AgentFilter, page: PageRequest): Promise<AgentPage> {
    const { rows, nextPageToken } = await readPage(page, this.#reader(filter), keptBy(filter))
    return { agents: rows.map(decodeAgent), nextPageToken }
  }

  async count (filter: AgentFilter): Promise<number> {
    const keep = keptBy(filter)
    if (keep !== undefined) return await countKept(this.#reader(filter), keep)
    const { count } = await this.#database.read(db => db.selectFrom('agents').where(eb => conditions(eb, filter))
      .select(eb => eb.fn.countAll<number>().as('count')).executeTakeFirstOrThrow())
    return count
  }

  async * all (): AsyncGenerator<Agent, void, undefined> {
    for await (const rows of readChunks(this.#reader({}))) for (const row of rows) yield decodeAgent(row)
  }

  async delete (id: SpiffeId): Promise<AgentRemoval> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const row = await trx.deleteFrom('agents').where('id', '=', id).returningAll().executeTakeFirst()
      if (row === undefined) throw notFound(id)
      const removal = { agent: decodeAgent(row), entries: await deleteJoinTokenAliases(trx, id) }
      noteRemoval(changes, removal)
      return removal
    })
  }

  async ban (id: SpiffeId): Promise<Agent> {
    return this.#changes.change(id, () => ({ banned: 1, serial_number: '', new_serial_number: null, new_expires_at: null }))
  }

  async setNewSerial (id: SpiffeId, serialNumber: string, expiresAt: Date): Promise<Agent> {
    return this.#changes.change(id, row => {
      if (row.banned === 1) throw agentBanned(id)
      return { new_serial_number: serialNumber, new_expires_at: expiresAt.getTime() }
    })
  }

  async promoteSerial (id: SpiffeId, newSerialNumber: string): Promise<Agent> {
    return this.#changes.change(id, row => {
      if (row.banned === 1) throw agentBanned(id)
      if (row.serial_number === newSerialNumber) return {}
      if (row.new_serial_number !== newSerialNumber || row.new_expires_at === null) {
        throw new SpiffeError('agent_not_active', `serial number ${newSerialNumber} is not the agent's`, { details: { id } })
      }
      return { serial_number: newSerialNumber, expires_at: row.new_expires_at, new_serial_number: null, new_expires_at: null }
    })
  }

  async setVersion (id: SpiffeId, agentVersion: string): Promise<Agent> {
    checkAgentVersion(agentVersion)
    return this.#changes.change(id, () => ({ agent_version: agentVersion }))
  }

  async deleteExpired (before: Date, { includeTofu, limit = prunedAtOnce }: AgentPruning): Promise<readonly AgentRemoval[]> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const query = trx.selectFrom('agents').selectAll().where('banned', '=', 0)
        .where('expires_at', '<', before.getTime())
        // A renewed SVID that was not used yet keeps its agent.
        .where(sql<SqlBool>`coalesce(new_expires_at, expires_at) < ${before.getTime()}`)
        .$if(!includeTofu, query => query.where('can_reattest', '=', 1))
        .orderBy('row_id').limit(limit)
      const rows = await this.#database.locked(query).execute()
      const removals: AgentRemoval[] = []
      for (const row of rows) {
        removals.push({ agent: decodeAgent(row), entries: await deleteJoinTokenAliases(trx, row.id as SpiffeId) })
      }
      for (const chunk of chunks(rows, rowsPerInsert)) {
        await trx.deleteFrom('agents').where('row_id', 'in', chunk.map(row => row.row_id)).execute()
      }
      for (const removal of removals) noteRemoval(changes, removal)
      return removals
    })
  }

  #reader (filter: AgentFilter): ReadRows<AgentRow> {
    return (after, limit) => this.#database.read(db => db.selectFrom('agents').selectAll()
      .where(eb => conditions(eb, filter)).where('row_id', '>', after).orderBy('row_id').limit(limit).execute())
  }
}

function keptBy ({ keep }: AgentFilter): ((row: AgentRow) => boolean) | undefined {
  return keep === undefined ? undefined : row => keep(decodeAgent(row))
}

function noteRemoval (changes: ChangeSet, { agent, entries }: AgentRemoval): void {
  changes.agent(agent)
  changes.entries(entries)
}

function notFound (id: SpiffeId): SpiffeError {
  return new SpiffeError('agent_not_found', 'agent not found', { details: { id } })
}

function conditions (eb: ExpressionBuilder<Schema, 'agents'>, filter: AgentFilter): ExpressionWrapper<Schema, 'agents', SqlBool> {
  const { attestationType, selectors, banned, canReattest, expiresBefore } = filter
  return eb.and([
    ...attestationType === undefined || attestationType === '' ? [] : [eb('attestation_type', '=', attestationType)],
    ...selectors === undefined ? [] : [setCondition(agentSelectorSet, selectors.match, selectorKeys(selectors.values))],
    ...banned === undefined ? [] : [eb('banned', '=', Number(banned))],
    ...canReattest === undefined ? [] : [eb('can_reattest', '=', Number(canReattest))],
    ...expiresBefore === undefined ? [] : [eb('expires_at', '<', expiresBefore.getTime())]
  ])
}
