import t from 'tap'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { killAgentRounds, killFirstStarts, killRotatingServerRounds, killServerRounds } from './kill-rounds.ts'

t.test('kill -9 of the server at random points under load', t => killServerRounds(t, 1))
t.test('kill -9 of a server that makes new authorities under load', t => killRotatingServerRounds(t, 1))
t.test('kill -9 of a server on PostgreSQL', { skip: postgresMissing() }, async t => {
  await using postgres = await startPostgres()
  await killRotatingServerRounds(t, 1, { config: { datastore_url: await postgres.createSchema() } })
})
t.test('kill -9 of a server that starts for the first time', t => killFirstStarts(t, 1))
t.test('kill -9 of the agent at random points while it renews', t => killAgentRounds(t, 2))
