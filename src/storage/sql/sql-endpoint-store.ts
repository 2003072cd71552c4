import type { Clock } from '../../runtime/clock.ts'
import type { ServiceEndpoint } from '../../spiffe/service-endpoint.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { EndpointStore } from '../endpoint-store.ts'
import { chunks, idsPerStatement, rowsPerInsert } from './chunks.ts'
import { differs } from './differs.ts'
import { readChunks } from './read-pages.ts'
import { decodeEndpoint, encodeEndpoint } from './service-rows.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlEndpointStore implements EndpointStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async replace (reports: ReadonlyMap<SpiffeId, readonly ServiceEndpoint[]>): Promise<void> {
    const wanted = new Map([...reports].flatMap(([agentId, endpoints]) => endpoints.map(endpoint => {
      if (endpoint.agentId !== agentId) throw new Error('an endpoint is reported by another agent than its own')
      return [endpoint.id, encodeEndpoint(endpoint)] as const
    })))
    await this.#database.change(this.#clock.now(), async (trx, changes) => {
      const left = new Map(wanted)
      const gone: string[] = []
      for (const agents of chunks([...reports.keys()].toSorted(), idsPerStatement)) {
        const query = trx.selectFrom('service_endpoints').selectAll().where('agent_id', 'in', agents).orderBy('row_id')
        for (const row of await this.#database.locked(query).execute()) {
          const after = left.get(row.id)
          left.delete(row.id)
          if (after === undefined) gone.push(row.id)
          else if (differs(row, after)) {
            await trx.updateTable('service_endpoints').set(after).where('row_id', '=', row.row_id).execute()
            changes.endpoints([row])
          }
        }
      }
      for (const ids of chunks(gone, idsPerStatement)) await trx.deleteFrom('service_endpoints').where('id', 'in', ids).execute()
      for (const rows of chunks([...left.values()], rowsPerInsert)) await trx.insertInto('service_endpoints').values(rows).execute()
      changes.endpoints([...gone.map(id => ({ id })), ...left.values()])
    })
  }

  async * all (): AsyncGenerator<ServiceEndpoint, void, undefined> {
    const read = (after: number, limit: number) => this.#database.read(db =>
      db.selectFrom('service_endpoints').selectAll().where('row_id', '>', after).orderBy('row_id').limit(limit).execute())
    for await (const rows of readChunks(read)) for (const row of rows) yield decodeEndpoint(row)
  }
}
