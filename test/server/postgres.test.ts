import t from 'tap'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { eventually } from '../fakes/eventually.ts'
import { startPostgres, postgresMissing } from '../fakes/postgres.ts'
import { startTestServer } from '../fakes/server.ts'

const skip = postgresMissing()
const spiffeId = { trustDomain: 'example.org', path: '/web' }
const entry = { spiffeId, parentId: { trustDomain: 'example.org', path: '/node' }, selectors: [{ type: 'unix', value: 'uid:1' }] }

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
