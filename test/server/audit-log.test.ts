import t from 'tap'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'

void t.test('audit_log_enabled: who called what, as what, and how it went, in SPIRE\'s words (spire-surface §6.4)', async t => {
  const { log, lines } = capturedLog()
  await using server = await startTestServer({ log, config: { auditLog: true } })
  const identity = await attest(server)
  await using agent = openServerChannel(server, identity)
  await using nobody = openServerChannel(server)
  await server.admin.client(agentService).listAgents({})
  await agent.client(entryService).getAuthorizedEntries({})
  await t.rejects(nobody.client(agentService).countAgents({}), /authorization denied/)
  await t.rejects(server.admin.client(agentService).getAgent({ id: { trustDomain: 'example.org', path: '/spire/agent/x/y' } }))
  const audit = () => lines.filter(({ type }) => type === 'audit')
  await eventually('each call has its line', () => audit().length >= 6)
  const of = (method: string) => audit().find(line => line['method'] === method)
  t.match(of('ListAgents'), {
    level: 'info', msg: 'API accessed', status: 'success', authorized_as: 'local', authorized_via: 'transport', service: 'agent.v1.Agent',
    request_id: /./, caller_uid: process.getuid?.(), caller_pid: process.pid
  })
  t.match(of('GetAuthorizedEntries'), {
    status: 'success', authorized_as: 'agent', authorized_via: 'datastore', caller_addr: /^127\.0\.0\.1:\d+$/,
    caller_id: /^spiffe:\/\/example\.org\/spire\/agent\/join_token\//
  })
  t.match(of('CountAgents'), {
    status: 'error', status_code: 'PermissionDenied', status_message: /authorization denied/, service: 'agent.v1.Agent', caller_addr: /^127/
  })
  t.notOk('authorized_as' in (of('CountAgents') ?? {}), 'nothing admitted it')
  t.match(of('GetAgent'), { status: 'error', status_code: 'NotFound', authorized_as: 'local' })
  t.notOk('authorized_as' in (of('AttestAgent') ?? { authorized_as: '' }), 'what anybody may do needs no standing')
  const ids = audit().map(line => line['request_id'])
  t.equal(new Set(ids).size, ids.length, 'a line for each call')

  const quiet = capturedLog()
  await using plain = await startTestServer({ log: quiet.log })
  await plain.admin.client(bundleService).getBundle({})
  t.notOk(quiet.lines.some(({ type }) => type === 'audit'), 'off unless it is wanted')
})
