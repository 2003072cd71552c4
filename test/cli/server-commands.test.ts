import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bind } from '../../src/rpc/server.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { HealthCheckResponse_ServingStatus as Serving, healthService } from '../../src/wire/generated/health.ts'
import { agentService, type ListAgentsRequest } from '../../src/wire/generated/server-agent.ts'
import { entryService, type ListEntriesRequest } from '../../src/wire/generated/server-entry.ts'
import type { AgentInit, Entry, EntryInit } from '../../src/wire/generated/types.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { serveServices } from '../fakes/serve-services.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })
const plainEntry: EntryInit = {
  id: 'e1',
  spiffeId: id('/web'),
  parentId: id('/spire/agent/a'),
  selectors: [{ type: 'unix', value: 'uid:1000' }, { type: 'unix', value: 'gid:7' }]
}
const fullEntry: EntryInit = {
  ...plainEntry,
  id: 'e2',
  x509SvidTtl: 60,
  jwtSvidTtl: 30,
  federatesWith: ['spiffe://other.test'],
  admin: true,
  downstream: true,
  expiresAt: 1_800_000_000n,
  dnsNames: ['web.test', 'www.test'],
  revisionNumber: 9_007_199_254_740_993n,
  storeSvid: true,
  hint: 'internal',
  createdAt: 1_700_000_000n,
  additionalAttributes: { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true }
}
const plainBlock = `Entry ID                : e1
SPIFFE ID               : spiffe://example.org/web
Parent ID               : spiffe://example.org/spire/agent/a
Revision                : 0
X509-SVID TTL           : default
JWT-SVID TTL            : default
Selector                : unix:uid:1000
Selector                : unix:gid:7

`
const fullBlock = `Entry ID                : e2
SPIFFE ID               : spiffe://example.org/web
Parent ID               : spiffe://example.org/spire/agent/a
Revision                : 9007199254740993
Downstream              : true
X509-SVID TTL           : 60
JWT-SVID TTL            : 30
Expiration time         : 2027-01-15 08:00:00 +0000 UTC
Selector                : unix:uid:1000
Selector                : unix:gid:7
FederatesWith           : spiffe://other.test
DNS name                : web.test
DNS name                : www.test
Admin                   : true
StoreSvid               : true
Hint                    : internal
DisableX509SvidPrefetch : true
JwtSvidIncludeJti       : true

`

void t.test('entry show', async t => {
  const asked: ListEntriesRequest[] = []
  const socket = await serveServices(t, [bind(entryService, {
    listEntries: async request => {
      asked.push(request)
      if (request.pageToken === '') return { entries: [plainEntry], nextPageToken: '1' }
      return request.pageToken === '1' ? { entries: [fullEntry], nextPageToken: '2' } : {}
    },
    getEntry: async ({ id }) => {
      if (id !== 'e1') throw new SpiffeError('entry_not_found', 'entry not found')
      return plainEntry
    },
    countEntries: async () => ({ count: 1 })
  })])
  const show = (...words: string[]) => runAssay(['entry', ...words, '-socketPath', socket])
  t.same(await show('show'), { code: 0, stdout: `Found 2 entries\n${plainBlock}${fullBlock}`, stderr: '' }, 'pages are followed to the end')
  t.same(asked.map(({ pageSize, pageToken }) => [pageSize, pageToken]), [[1000, ''], [1000, '1'], [1000, '2']])
  t.same(await show('show', '-entryID', 'e1'), { code: 0, stdout: `Found 1 entry\n${plainBlock}`, stderr: '' })
  t.match(await show('show', '-entryID', 'e9'), {
    code: 1, stderr: /Error: .*entry not found\n {2}code: entry_not_found; a retry does not help\n {2}next: list entries/
  })
  t.match(await show('show', '-entryID', 'e1', '-hint', 'x'), { code: 2, stderr: /can't be combined/ })
  const { stdout } = await show('show', '--output=json')
  t.equal(stdout.indexOf('\n'), stdout.length - 1, 'one line')
  t.same(JSON.parse(stdout), {
    entries: [{
      admin: false, created_at: '0', dns_names: [], downstream: false, expires_at: '0', federates_with: [], hint: '', id: 'e1',
      jwt_svid_ttl: 0,
      parent_id: { path: '/spire/agent/a', trust_domain: 'example.org' }, revision_number: '0',
      selectors: [{ type: 'unix', value: 'uid:1000' }, { type: 'unix', value: 'gid:7' }],
      spiffe_id: { path: '/web', trust_domain: 'example.org' }, store_svid: false, x509_svid_ttl: 0
    }, {
      additional_attributes: { disable_x509_svid_prefetch: true, jwt_svid_include_jti: true },
      admin: true, created_at: '1700000000', dns_names: ['web.test', 'www.test'], downstream: true, expires_at: '1800000000',
      federates_with: ['spiffe://other.test'], hint: 'internal', id: 'e2', jwt_svid_ttl: 30,
      parent_id: { path: '/spire/agent/a', trust_domain: 'example.org' }, revision_number: '9007199254740993',
      selectors: [{ type: 'unix', value: 'uid:1000' }, { type: 'unix', value: 'gid:7' }],
      spiffe_id: { path: '/web', trust_domain: 'example.org' }, store_svid: true, x509_svid_ttl: 60
    }],
    next_page_token: ''
  })
  t.match(stdout, /^\{"entries":\[\{"admin":false,"created_at":"0","dns_names"/, 'sorted keys')
  asked.length = 0
  await show('show', '-spiffeID', 'spiffe://example.org/web', '-selector', 'unix:uid:1', '-matchSelectorsOn', 'exact', '-federatesWith', 'other.test', '-downstream')
  t.match(asked[0]?.filter, {
    bySpiffeId: id('/web'), bySelectors: { selectors: [{ type: 'unix', value: 'uid:1' }], match: 0 },
    byFederatesWith: { trustDomains: ['other.test'], match: 2 }, byDownstream: { value: true }, byHint: undefined, byParentId: undefined
  })
  t.same(await show('count'), { code: 0, stdout: '1 registration entry\n', stderr: '' })
  t.same(await show('count', '-output', 'json'), { code: 0, stdout: '{"count":1}\n', stderr: '' })
})

void t.test('entry create, update and delete', async t => {
  let sent: readonly Entry[] = []
  const outcome = (entry: Entry) => entry.hint === 'taken'
    ? { status: { code: 6, message: 'similar entry already exists' }, entry: plainEntry }
    : { status: { code: 0, message: 'OK' }, entry: { ...entry, id: entry.id || 'new' } }
  const socket = await serveServices(t, [bind(entryService, {
    batchCreateEntry: async ({ entries }) => { sent = entries; return { results: entries.map(outcome) } },
    batchUpdateEntry: async ({ entries }) => { sent = entries; return { results: entries.map(outcome) } },
    getEntry: async () => ({ id: 'e1', additionalAttributes: { jwtSvidIncludeJti: true } }),
    batchDeleteEntry: async ({ ids }) => ({
      results: ids.map(id => ({ id, status: id === 'bad' ? { code: 5, message: 'entry not found' } : { code: 0 } }))
    })
  })])
  const entry = (words: string[], input = '') => runAssay(['entry', ...words, '-socketPath', socket], { input })
  const base = ['-spiffeID', 'spiffe://example.org/web', '-selector', 'unix:uid:1000']
  const parent = ['-parentID', 'spiffe://example.org/spire/agent/a']

  t.same(await entry(['create', ...base, ...parent, '-selector', 'unix:gid:7']), {
    code: 0, stdout: plainBlock.replace('e1', 'new'), stderr: ''
  })
  t.same(sent[0]?.additionalAttributes, undefined)
  await entry([
    'create', ...base, '-node', '-entryID', 'n', '-x509SVIDTTL', '10m', '-jwtSVIDTTL', '60', '-dns', 'a', '-dns', 'b', '-admin',
    '-entryExpiry', '1800000000', '-jwtSVIDIncludeJTI'
  ])
  t.match(sent[0], {
    id: 'n', parentId: id('/spire/server'), x509SvidTtl: 600, jwtSvidTtl: 60, dnsNames: ['a', 'b'], admin: true, expiresAt: 1_800_000_000n,
    additionalAttributes: { jwtSvidIncludeJti: true, disableX509SvidPrefetch: false }
  })
  const failed = await entry(['create', ...base, ...parent, '-hint', 'taken'])
  t.equal(failed.code, 1)
  t.equal(failed.stdout, '')
  t.match(failed.stderr, /^Failed to create the following entry \(code: AlreadyExists, msg: "similar entry already exists"\):\n/)
  t.match(failed.stderr, /\nEntry ID {16}: \(none\)\n/)
  t.match(failed.stderr, /Error: failed to create one entry\n$/)
  t.match(await entry(['create', ...base, ...parent, '-hint', 'taken', '-output', 'json']), {
    code: 1, stdout: /"status":\{"code":6,/, stderr: ''
  })

  for (const [words, message] of [
    [[...base], 'a parent ID is required if the node flag is not set'],
    [['-spiffeID', 'spiffe://example.org/web', ...parent], 'at least one selector is required'],
    [['-selector', 'a:b', ...parent], 'a SPIFFE ID is required'],
    [[...base, ...parent, '-node'], '-parentID and -node exclude each other'],
    [[...base, '-node', '-federatesWith', 'other.test'], 'node entries can not federate'],
    [['-data', '-', '-hint', 'x'], '-hint and -data exclude each other'],
    [['-data', '-', '-node'], '-node and -data exclude each other']
  ] as const) t.match(await entry(['create', ...words]), { code: 2, stderr: `Error: ${message}\n` }, message)

  const data = JSON.stringify({ entries: [
    { spiffe_id: 'spiffe://example.org/a', parent_id: 'spiffe://example.org/p', selectors: [{ type: 'unix', value: 'uid:1' }], federates_with: ['spiffe://other.test'], entryExpiry: 5,
      additional_attributes: { disable_x509_svid_prefetch: true } },
    { spiffe_id: 'spiffe://example.org/b', parent_id: 'spiffe://example.org/p', selectors: [{ type: 'unix', value: 'uid:2' }], hint: 'taken' }
  ] })
  const batch = await entry(['create', '-data', '-'], data)
  t.equal(batch.code, 1, 'one of two failed')
  t.match(batch.stdout, /spiffe:\/\/example.org\/a/)
  t.match(batch.stderr, /spiffe:\/\/example.org\/b/)
  t.match(sent[0], { federatesWith: ['other.test'], expiresAt: 5n, additionalAttributes: { disableX509SvidPrefetch: true } })
  for (const [input, message] of [
    ['{"entries": [{"spiffeid": "x"}]}', /standard input:1: entries.0.spiffeid: unknown key; did you mean spiffe_id\?/],
    ['nonsense', /standard input: must be a map/]
  ] as const) t.match(await entry(['create', '-data', '-'], input), { code: 2, stderr: message })
  t.match(await entry(['create', '-data', '/nonexistent']), { code: 2, stderr: /cannot read \/nonexistent: no such file/ })

  t.match(await entry(['update', ...base, ...parent]), { code: 2, stderr: /entry ID is required/ })
  t.equal((await entry(['update', ...base, ...parent, '-entryID', 'e1', '-disableX509SVIDPrefetch'])).code, 0)
  t.same(sent[0]?.additionalAttributes, { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true }, 'attributes that are not given stay')

  t.same(await entry(['delete', '-entryID', 'e1']), {
    code: 0, stdout: 'Deleted entry with ID: e1\nDeleted 1 entries successfully\n', stderr: ''
  })
  t.match(await entry(['delete', '-file', '-'], '{"ids": ["a", "bad", "b"]}'), {
    code: 1,
    stdout: 'Deleted entry with ID: a\nDeleted entry with ID: b\nDeleted 2 entries successfully, but failed to delete 1 entries\n',
    stderr: /Failed to delete entry with ID bad \(code: NotFound, msg: "entry not found"\)/
  })
  t.match(await entry(['delete']), { code: 2, stderr: /one of -entryID and -file is required/ })
  t.match(await entry(['delete', '-file', '-'], '{"ids": [1]}'), { code: 2, stderr: /is not of the form/ })
})

void t.test('what the server wrote cannot forge lines or steer the terminal', async t => {
  const hint = 'x\nEntry ID                : forged\u001B[2J'
  const socket = await serveServices(t, [bind(entryService, { getEntry: async () => ({ ...plainEntry, hint }) })])
  const { stdout } = await runAssay(['entry', 'show', '-entryID', 'e1', '-socketPath', socket])
  t.match(stdout, /Hint {20}: x\\x0aEntry ID {16}: forged\\x1b\[2J\n/)
})

const agents: AgentInit[] = [
  { id: id('/spire/agent/join_token/1'), attestationType: 'join_token', x509svidSerialNumber: '42', x509svidExpiresAt: 1_800_000_000n,
    selectors: [{ type: 'a', value: 'b' }, { type: 'c', value: 'd' }], agentVersion: '1.0' },
  { id: id('/spire/agent/x509pop/2'), attestationType: 'x509pop', x509svidExpiresAt: 1n, banned: true, canReattest: true }
]
const agentBlocks = [`SPIFFE ID         : spiffe://example.org/spire/agent/join_token/1
Attestation type  : join_token
Expiration time   : 2027-01-15 08:00:00 +0000 UTC
Serial number     : 42
Can re-attest     : false
Agent version     : 1.0
`, `SPIFFE ID         : spiffe://example.org/spire/agent/x509pop/2
Attestation type  : x509pop
Expiration time   : 1970-01-01 00:00:01 +0000 UTC
Banned            : true
Can re-attest     : true
`]

void t.test('agent list, show, count, ban, evict, purge', async t => {
  let listed: AgentInit[] = agents
  const asked: ListAgentsRequest[] = []
  const removed: string[] = []
  const socket = await serveServices(t, [bind(agentService, {
    listAgents: async request => { asked.push(request); return { agents: request.pageToken === '' ? listed : [] } },
    getAgent: async () => agents[0] as AgentInit,
    countAgents: async () => ({ count: 3 }),
    banAgent: async ({ id }) => { removed.push(`ban ${id?.path}`); return {} },
    deleteAgent: async ({ id }) => {
      if (id?.path.endsWith('/gone') === true) throw new SpiffeError('agent_not_found', 'agent not found')
      removed.push(`delete ${id?.path}`)
      return {}
    }
  })])
  const agent = (...words: string[]) => runAssay(['agent', ...words, '-socketPath', socket])
  const one = ['-spiffeID', 'spiffe://example.org/spire/agent/join_token/1']
  t.same(await agent('list'), { code: 0, stdout: `Found 2 attested agents:\n\n${agentBlocks.join('\n')}\n`, stderr: '' })
  t.same(await agent('show', ...one), {
    code: 0,
    stdout: `Found an attested agent given its SPIFFE ID\n\n${agentBlocks[0]}Selectors         : a:b\nSelectors         : c:d\n\n`,
    stderr: ''
  })
  t.same(await agent('count'), { code: 0, stdout: '3 attested agents\n', stderr: '' })
  t.same(await agent('ban', ...one), { code: 0, stdout: 'Agent banned successfully\n', stderr: '' })
  t.same(await agent('evict', ...one), { code: 0, stdout: 'Agent evicted successfully\n', stderr: '' })
  t.same(await agent('evict', ...one, '-output', 'json'), { code: 0, stdout: '{}\n', stderr: '' })
  t.same(removed, ['ban /spire/agent/join_token/1', 'delete /spire/agent/join_token/1', 'delete /spire/agent/join_token/1'])
  t.match(await agent('ban'), { code: 2, stderr: /a SPIFFE ID is required/ })
  await agent(
    'list', '-banned=false', '-canReattest', '-attestationType', 'x', '-expiresBefore', '2026-01-31T12:00:00Z', '-selector', 'a:b',
    '-matchSelectorsOn', 'any'
  )
  t.match(asked.at(-1)?.filter, {
    byBanned: { value: false }, byCanReattest: { value: true }, byAttestationType: 'x', byExpiresBefore: '2026-01-31 12:00:00 +0000 +00',
    bySelectorMatch: { match: 3 }
  })
  listed = []
  t.same(await agent('list'), { code: 0, stdout: 'No attested agents found\n', stderr: '' })
  t.same(await agent('purge'), { code: 0, stdout: 'No agents to purge.\n', stderr: '' })
  removed.length = 0
  const soon = BigInt(Math.floor(Date.now() / 1_000))
  listed = [
    { id: id('/spire/agent/x/old'), canReattest: true, x509svidExpiresAt: 5n },
    { id: id('/spire/agent/x/gone'), canReattest: true, x509svidExpiresAt: 5n },
    { id: id('/spire/agent/x/banned'), canReattest: true, banned: true, x509svidExpiresAt: 5n },
    { id: id('/spire/agent/x/fresh'), canReattest: true, x509svidExpiresAt: soon },
    { id: id('/spire/agent/x/token'), canReattest: false, x509svidExpiresAt: 5n }
  ]
  t.match(await agent('purge', '-dryRun'), {
    code: 0, stdout: /^Found 2 expired agents\n\nAgents that can be purged:\nSPIFFE ID {9}: .*\/old\nSPIFFE ID {9}: .*\/gone\n$/
  })
  t.same(removed, [], 'a dry run deletes nothing')
  t.match(await agent('purge'), {
    code: 1, stdout: /Agents purged:\n.*\/old\n\nAgents not purged:\n.*\/gone\nError {13}: .*agent not found\n$/
  })
  t.same(removed, ['delete /spire/agent/x/old'], 'banned, fresh and one-use agents stay whatever the server lists')
})

void t.test('token generate', async t => {
  const asked: unknown[] = []
  const socket = await serveServices(t, [bind(agentService, {
    createJoinToken: async request => { asked.push(request); return { value: 'tok', expiresAt: 5n } }
  })])
  const generate = (...words: string[]) => runAssay(['token', 'generate', '-socketPath', socket, ...words])
  t.same(await generate(), { code: 0, stdout: 'Token: tok\n', stderr: 'Warning: Missing SPIFFE ID.\n' })
  t.same(await generate('-spiffeID', 'spiffe://example.org/n', '-ttl', '5m'), { code: 0, stdout: 'Token: tok\n', stderr: '' })
  t.match(asked, [{ ttl: 600, agentId: undefined }, { ttl: 300, agentId: id('/n') }])
  t.same(await generate('-output', 'json'), { code: 0, stdout: '{"expires_at":"5","value":"tok"}\n', stderr: '' })
})

void t.test('healthchecks and unreachable sockets', async t => {
  let status: number = Serving.SERVING
  const socket = await serveServices(t, [bind(healthService, { check: async () => ({ status }) })])
  t.same(await runAssay(['server', 'healthcheck', '-socketPath', socket]), { code: 0, stdout: 'Server is healthy.\n', stderr: '' })
  t.same(await runAssay(['agent', 'healthcheck'], { environment: { SPIFFE_ENDPOINT_SOCKET: `unix://${socket}` } }),
    { code: 0, stdout: 'Agent is healthy.\n', stderr: '' }, 'WLE-07 the address comes from SPIFFE_ENDPOINT_SOCKET')
  const given = async (address: string, inEnvironment: string) => {
    const environment = { SPIFFE_ENDPOINT_SOCKET: inEnvironment }
    return (await runAssay(['agent', 'healthcheck', '-socketPath', address], { environment })).code
  }
  t.equal(await given(`unix://${socket}`, 'unix:///nowhere/api.sock'), 0, 'WLE-07 explicit before environment')
  t.equal(await given('unix:api.sock', `unix://${socket}`), 1, 'WLE-07 a bad explicit address is not passed over')
  status = Serving.NOT_SERVING
  t.match(await runAssay(['server', 'healthcheck', '-socketPath', socket]), { code: 1, stderr: /server is unhealthy/ })
  const nowhere = ['-socketPath', '/nonexistent/s']
  t.match(await runAssay(['server', 'healthcheck', ...nowhere]), {
    code: 1, stderr: 'Error: server is unhealthy: unable to determine health\n'
  })
  t.match(await runAssay(['server', 'healthcheck', '-verbose', ...nowhere]), {
    code: 1, stderr: /Failed to check health: cannot reach the server at \/nonexistent\/s/
  })
  t.match(await runAssay(['entry', 'show', ...nowhere]), {
    code: 1,
    stderr: /cannot reach the server at \/nonexistent\/s[^]*code: server_unreachable; a retry may help\n {2}next: check that /
  })
  t.match(await runAssay(['entry', 'show', '-socketPath', socket]), {
    code: 1, stderr: /code: (not_implemented|unimplemented); a retry does not help/
  })
})

void t.test('where the socket is', async t => {
  const socket = await serveServices(t, [bind(healthService, { check: async () => ({ status: Serving.SERVING }) })])
  const check = (environment: Record<string, string>, ...words: string[]) => runAssay(['server', 'healthcheck', ...words], { environment })
  const instance = socket.replace('api.sock', '%i')
  t.match(await check({ ASSAY_SERVER_SOCKET: socket }), { code: 0 })
  t.match(await check({ SPIRE_SERVER_PRIVATE_SOCKET: socket }), { code: 0 })
  t.match(await check({ ASSAY_SERVER_SOCKET: socket, SPIRE_SERVER_PRIVATE_SOCKET: '/wrong' }), { code: 0 }, 'ours goes first')
  t.match(await check({ ASSAY_SERVER_SOCKET: '/wrong' }, '-socketPath', socket), { code: 0 }, 'the flag wins')
  t.match(await check({ ASSAY_SERVER_SOCKET: '/wrong', ASSAY_SERVER_SOCKET_TEMPLATE: instance }, '-instance', 'api.sock'), { code: 0 })
  t.match(await check({ SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE: instance }, '-instance', 'api.sock'), { code: 0 })
  const entry = (environment: Record<string, string>, ...words: string[]) => runAssay(['entry', 'count', ...words], { environment })
  t.match(await entry({}, '-instance', 'a'), {
    code: 2, stderr: /-instance needs the environment variable ASSAY_SERVER_SOCKET_TEMPLATE or/
  })
  t.match(await entry({ ASSAY_SERVER_SOCKET_TEMPLATE: '/x' }, '-instance', 'a'), { code: 2, stderr: /_TEMPLATE has no %i/ })
  const fetch = ['api', 'fetch', 'jwt', '-audience', 'a']
  const api = (SPIFFE_ENDPOINT_SOCKET: string) => runAssay(fetch, { environment: { SPIFFE_ENDPOINT_SOCKET } })
  t.match(await api('/plain'), { code: 2, stderr: /endpoint_malformed \(WLE-08\)/ }, 'WLE-08 the variable is a URI')
  t.match(await api('unix://run/a.sock'), { code: 2, stderr: /endpoint_malformed \(WLE-09\)/ }, 'WLE-09 no authority')
  t.match(await api('tcp://127.0.0.1:1'), { code: 2, stderr: /Unix sockets only/ })
})

void t.test('data files come from disk too', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-data-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = join(folder, 'entries.json')
  const entries = Array.from({ length: 450 }, (_, index) => ({
    spiffe_id: `spiffe://example.org/w${index}`, parent_id: 'spiffe://example.org/p', selectors: [{ type: 'unix', value: `uid:${index}` }]
  }))
  await writeFile(file, JSON.stringify({ entries }, null, 2))
  const sizes: number[] = []
  const socket = await serveServices(t, [bind(entryService, {
    batchCreateEntry: async ({ entries }) => { sizes.push(entries.length); return { results: entries.map(entry => ({ entry })) } }
  })])
  const { code, stdout } = await runAssay(['entry', 'create', '-data', file, '-output', 'json', '-socketPath', socket])
  t.equal(code, 0)
  t.same(sizes, [200, 200, 50], 'in batches')
  const { results } = JSON.parse(stdout) as { results: { entry: { spiffe_id: { path: string } } }[] }
  t.same(results.map(({ entry }) => entry.spiffe_id.path), entries.map((_, index) => `/w${index}`), 'in the file\'s order')
})
