import t from 'tap'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { eventually } from '../fakes/eventually.ts'
import { startPostgres, postgresMissing } from '../fakes/postgres.ts'
import { startServer } from '../fakes/processes.ts'
import { startTestServer } from '../fakes/server.ts'

const skip = postgresMissing()
const spiffeId = { trustDomain: 'example.org', path: '/web' }
const entry = { spiffeId, parentId: { trustDomain: 'example.org', path: '/node' }, selectors: [{ type: 'unix', value: 'uid:1' }] }

await t.test('a server runs on the database that SPIRE\'s connection_string names by keywords', { skip }, async t => {
  await using postgres = await startPostgres()
  const { searchParams, pathname } = new URL(await postgres.createSchema())
  const keywords = [...searchParams].map(([keyword, value]) => `${keyword}='${value}'`)
  const written = [`dbname=${pathname.slice(1)}`, ...keywords].join(' ')
  const data = { database_type: 'postgres', connection_string: written }
  await using server = await startServer({ blocks: { plugins: { DataStore: { sql: { plugin_data: data } } } } })
  await using admin = openUnixChannel(server.adminSocket)
  const { results } = await admin.client(entryService).batchCreateEntry({ entries: [entry] })
  t.equal(results[0]?.status?.code, 0, written)
  t.match(server.process.lines().find(({ msg }) => msg === 'server is running'), { datastore: 'postgres' })
})

await t.test('a server runs on PostgreSQL and is back after the database was away', { skip }, async t => {
  await using postgres = await startPostgres()
  const config = { datastoreUrl: await postgres.createSchema() }
  {
    await using server = await startTestServer({ config })
    const entries = server.admin.client(entryService)
    t.equal((await entries.batchCreateEntry({ entries: [entry] })).results[0]?.status?.code, 0)
    await postgres.stop()
    await t.rejects(entries.countEntries({}), { status: 'UNAVAILABLE', name: 'RpcError' }, 'fails at once, and says that a retry helps')
    await postgres.start()
    await eventually('the server uses the database again', () => entries.countEntries({}).then(({ count }) => count === 1, () => false))
    t.pass('used again as soon as it is there')
  }
  await using again = await startTestServer({ config })
  t.equal((await again.admin.client(entryService).countEntries({})).count, 1, 'nothing was lost')
})
