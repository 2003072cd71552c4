import t from 'tap'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent } from '../fakes/following-agent.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { makeLocalEndpoint } from '../fakes/services.ts'

const webId = 'spiffe://example.org/web'
const web = ['-name', 'web', '-port', '80', '-spiffeID', webId]

function on ({ config }: Pick<TestServer, 'config'>) {
  return (words: readonly string[], input?: string) =>
    runAssay(['service', ...words, '-socketPath', config.socketPath], input === undefined ? {} : { input })
}

const json = (text: string) => JSON.parse(text) as Record<string, unknown>

t.test('a service is created, listed, shown, updated and deleted', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  t.match(await assay(['list']), { code: 0, stdout: 'No services found\n' })
  const created = await assay([
    'create', '-serviceID', 's1', '-name', 'web.shop', '-address', '10.96.0.7', '-port', 'http=80:8080/http@1080', '-port', '9090',
    '-spiffeID', webId, '-caller', 'spiffe://example.org/shop/*', '-endpoint', '192.0.2.1:7', '-endpoint', '2001:db8::1', '-inbound', 'permissive'
  ])
  const block = `Service ID       : s1
Name             : web.shop
Revision         : 0
Address          : 10.96.0.7
Port             : http=80:8080/http@1080
Port             : 9090/tcp
SPIFFE ID        : spiffe://example.org/web
Caller           : spiffe://example.org/shop/*
Static endpoint  : 192.0.2.1:7
Static endpoint  : 2001:db8::1
Inbound          : permissive

`
  t.same(created, { code: 0, stderr: '', stdout: block })
  const table = `NAME      ADDRESS    PORTS                            ENDPOINTS  NODES  SERVICE ID
web.shop  10.96.0.7  http=80:8080/http@1080 9090/tcp  2          0      s1
`
  t.same(await assay(['list']), { code: 0, stderr: '', stdout: table })
  t.same(await assay(['show', '-name', 'web.shop']), {
    code: 0, stderr: '', stdout: `${block}No agent reports an endpoint\n\nNo agent follows services\n`
  })
  const updated = await assay(['update', '-name', 'web.shop', '-port', '80', '-spiffeID', webId, '-nobody'])
  t.match(updated, { code: 0, stdout: /^Service ID +: s1\n[^]*Revision +: 1\nPort +: 80\/tcp\n[^]*Callers +: nobody\nInbound +: strict\n/ })
  const renamed = await assay(['update', ...web, '-serviceID', 's1'])
  t.match(renamed, { code: 0, stdout: /Name +: web\n[^]*Callers +: all of this trust domain\n/ })
  t.match(json((await assay(['list', '-output', 'json'])).stdout), {
    services: [{ service: { id: 's1', name: 'web', revision_number: '2', spiffe_ids: [webId] }, endpoints: [] }]
  })
  t.same(await assay(['delete', '-name', 'web']), { code: 0, stderr: '', stdout: 'Deleted service with ID: s1\n' })
  t.match(await assay(['delete', '-serviceID', 's1']), { code: 1, stderr: /Failed to delete service with ID s1 \(code: NotFound/ })
  t.match(await assay(['show', '-name', 'web']), { code: 1, stderr: /no service "web"[^]*service_not_found/ })
  t.match(await assay(['update', ...web]), { code: 1, stderr: /no service "web"/ })
})

t.test('services from a file; what is refused does not keep the others', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  const services = [
    {
      name: 'a', spiffe_ids: [webId], callers: [],
      ports: [{ port: 80, target_port: 8080, protocol: 'http', local_port: 1080, name: 'http' }]
    },
    { name: 'b', service_id: 'b', ports: [{ port: 1 }], spiffe_ids: [webId], endpoints: [{ address: '192.0.2.1', port: 7 }] },
    { name: 'c', ports: [{ port: 80, local_port: 1080 }], spiffe_ids: [webId] },
    { name: 'd', ports: [{ port: 80 }], spiffe_ids: ['spiffe://stranger.test/web'] },
    { name: 'e', ports: [{ port: 80, protocol: 'udp' }], spiffe_ids: [webId] }
  ]
  const outcome = await assay(['create', '-data', '-', '-output', 'json'], JSON.stringify({ services }))
  t.equal(outcome.code, 1)
  t.match(json(outcome.stdout), {
    results: [
      { status: { code: 0 }, service: { name: 'a', callers: {}, ports: [{ target_port: 8080 }] } },
      { status: { code: 0 }, service: { id: 'b', static_endpoints: [{ address: '192.0.2.1', port: 7 }] } },
      { status: { code: 6, message: 'local port 1080 is that of service "a"' } },
      { status: { code: 3, message: 'trust domain "stranger.test" is not federated with; store its bundle first' } },
      { status: { code: 3, message: /invalid protocol: "udp"/ } }
    ]
  })
  t.match(await assay(['create', ...web, '-data', '-'], '{}'), { code: 2, stderr: /-name and -data exclude each other/ })
  t.match(await assay(['create', '-data', '-'], '{"services":[{"name":"x","port":1}]}'), { code: 2, stderr: /services\.0\.ports/ })
})

t.test('wrong usage', async t => {
  const cases: [string[], RegExp][] = [
    [['create', '-port', '80', '-spiffeID', webId], /a name is required: -name/],
    [['create', '-name', 'a', '-spiffeID', webId], /at least one port is required: -port/],
    [['create', '-name', 'a', '-port', '80'], /at least one SPIFFE ID is required: -spiffeID/],
    [['create', ...web, '-nobody', '-caller', webId], /-caller and -nobody exclude each other/],
    [['create', ...web, '-port', 'http'], /must be of the form/],
    [['create', ...web, '-endpoint', '[::1'], /must be IP or IP:PORT/],
    [['delete'], /a service is required: -name or -serviceID/],
    [['show'], /one of -name and -serviceID is required/]
  ]
  for (const [words, stderr] of cases) {
    t.match(await runAssay(['service', ...words, '-socketPath', '/nowhere']), { code: 2, stderr }, words.join(' '))
  }
})

t.test('a change of services waits for the agents that follow them, and show tells who serves and who can call', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  await using plain = await startFollowingAgent(server)
  plain.mute()
  t.match(await assay(['create', ...web, '--wait']), { code: 0, stdout: /\nno live agent is concerned after [\dms]+\n$/ })
  await using agent = await startFollowingAgent(server, { mesh: true })
  const serves = async () => (await assay(['update', ...web, '-inbound', 'permissive', '--wait'])).stdout
  await eventually('it is known to follow', async () => /\n1 of 1 live agent has it after [\dms]+\n/.test(await serves()))
  t.match(await assay(['update', ...web, '-nobody', '--wait', '-output', 'json']), { code: 0 })
  agent.mute()
  t.match(await assay(['update', ...web, '--wait', '-wait-timeout', '300ms']), { code: 3, stdout: /0 of 1 live agent have it/ })
  agent.unmute()

  const spiffeId = { trustDomain: 'example.org', path: '/web' }
  const entry = { spiffeId, parentId: agent.id, selectors: [{ type: 'unix', value: 'uid:1' }] }
  await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
  agent.report(makeLocalEndpoint())
  const show = async () => (await assay(['show', '-name', 'web'])).stdout
  await eventually('the endpoint is there, and the agent knows of it', async () => /10\.0\.0\.1[^]*\nacknowledged /.test(await show()))
  const rows = `ADDRESS +SPIFFE ID +NODE +TRANSPORTS +AGENT\n10.0.0.1 +${webId} +node-1 +hbone +${agent.spiffeId}`
  t.match(await show(), new RegExp(`\n\n${rows}\n\nacknowledged  ${agent.spiffeId}\n$`))
  t.match(await assay(['list']), { stdout: /\nweb +- +80\/tcp +1 +1 / })
  const { stdout } = await runAssay(['status', '-socketPath', server.config.socketPath])
  t.match(stdout, / SEEN +SERVICES +WITHOUT SVID\n/)
  t.match(stdout, new RegExp(`${agent.spiffeId} .* yes\n`))
})
