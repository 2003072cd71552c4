import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { ourAttestors } from '../../src/cli/takeover/our-attestors.ts'
import { lockTakeover } from '../../src/cli/takeover/takeover-lock.ts'
import { contentOf } from '../../src/takeover/diff-entries.ts'
import { readJournal } from '../../src/takeover/journal.ts'
import { Takeover } from '../../src/takeover/takeover.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { createJoinToken } from '../fakes/agent-client.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { SimulatedAgent } from '../fakes/simulated-agent.ts'
import { idMessage } from '../interop/administrator.ts'

const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
const { signal } = new AbortController()
const attestors = await ourAttestors()
const settleMs = 60_000
let files = 0
const lockOf = (file: string) => () => lockTakeover(file, signal)

/** SPIRE's API is ours: a second server of ours stands for SPIRE's here. test/takeover/spire.test.ts has the real one. */
async function twoServers (scope: AsyncDisposableStack) {
  const there = scope.use(await startTestServer())
  const ours = scope.use(await startTestServer())
  const file = join(folder, `state-${++files}.json`)
  const clock = new ManualClock(new Date())
  const takeover = new Takeover({ there: there.admin, ours: ours.admin, file, lock: lockOf(file), clock, attestors, signal })
  return { there, ours, file, clock, takeover }
}

const parent = 'spiffe://example.org/spire/agent/join_token/node-1'

function entry (id: string, rest: EntryInit = {}): EntryInit {
  return {
    id, spiffeId: idMessage(`spiffe://example.org/${id}`), parentId: idMessage(parent), selectors: [{ type: 'unix', value: 'uid:1000' }],
    ...rest
  }
}

async function create (server: TestServer, ...entries: readonly EntryInit[]): Promise<void> {
  const { results } = await server.admin.client(entryService).batchCreateEntry({ entries })
  for (const { status } of results) if (status?.code !== 0) throw new Error(status?.message)
}

const entriesOf = async (server: TestServer) => (await server.admin.client(entryService).listEntries({})).entries
const contentsOf = async (server: TestServer) => (await entriesOf(server)).map(contentOf).toSorted()
const authoritiesOf = async (server: TestServer) => {
  const { x509Authorities, jwtAuthorities } = await server.admin.client(bundleService).getBundle({})
  return [...x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString('hex')), ...jwtAuthorities.map(({ keyId }) => keyId)].toSorted()
}

await t.test('a takeover with entries, partners and one agent, and back', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, ours, takeover, clock, file } = await twoServers(scope)
  const { bundle } = await createTestAuthority('partner.test')
  await there.admin.client(bundleService).batchSetFederatedBundle({ bundle: [encodeBundle(bundle)] })
  await there.admin.client(trustDomainService).batchCreateFederationRelationship({
    federationRelationships: [{ trustDomain: 'other.test', bundleEndpointUrl: 'https://other.test/', httpsWeb: {} }]
  })
  const windows = [{ type: 'windows', value: 'user_name:a' }]
  await create(there, entry('web', {
    x509SvidTtl: 600, jwtSvidTtl: 60, federatesWith: ['partner.test'], dnsNames: ['web.test', 'www.test'], hint: 'public', admin: true,
    additionalAttributes: { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true }
  }), entry('below', { downstream: true }), entry('stored', { storeSvid: true }), entry('container', { selectors: windows }))
  const token = await createJoinToken(there)
  const agentId = `spiffe://example.org/spire/agent/join_token/${token}`
  const options = (server: TestServer) => ({ addresses: [`127.0.0.1:${server.ready.port}`], trustDomain: parseTrustDomain('example.org') })
  await SimulatedAgent.join(token, options(there))

  await t.test('the plan changes nothing and names what stays and what is left to do by hand', async t => {
    const before = [await authoritiesOf(there), await authoritiesOf(ours), await contentsOf(ours)]
    const { plan } = await takeover.look()
    t.equal(plan.authorities.toThere.x509.length, 1)
    t.equal(plan.authorities.toHere.jwt.length, 1)
    t.equal(plan.entries.create.length, 4)
    t.same(plan.relationships.map(({ trustDomain }) => trustDomain), ['other.test'])
    t.same(plan.bundles.map(({ trustDomain }) => trustDomain), ['partner.test'])
    t.match(plan.agents, [{ id: agentId, place: 'there', how: 'same-token' }])
    const codes = plan.findings.map(({ kind, code, about }) => [kind, code, about])
    t.same(codes.filter(([kind]) => kind !== 'by-hand'),
      [['stays', 'entry-not-served', 'stored'], ['stays', 'entry-not-served', 'container']])
    t.ok(codes.some(([, code, about]) => code === 'server-below' && about === 'spiffe://example.org/below'))
    t.same([await authoritiesOf(there), await authoritiesOf(ours), await contentsOf(ours)], before)
    t.equal(await readJournal(file), undefined)
  })

  await t.test('nothing is done before it is begun', async t => {
    await t.rejects(takeover.round(), { code: 'takeover_unknown' })
    await t.rejects(takeover.finish(), { code: 'takeover_unknown' })
    await t.rejects(takeover.rollBack(), { code: 'takeover_unknown' })
  })

  await t.test('authorities and partners first; entries once the bundles had time to spread', async t => {
    await takeover.round({ begin: true, settleMs })
    const union = await authoritiesOf(there)
    t.equal(union.length, 4)
    t.same(await authoritiesOf(ours), union)
    t.same((await takeover.look()).plan.relationships, [])
    t.same(await contentsOf(ours), [], 'whoever moves too early gets nothing that could fail')
    await t.rejects(takeover.finish(), { code: 'takeover_not_settled' })
    await clock.advance(settleMs)
    await takeover.round()
    t.same(await contentsOf(ours), await contentsOf(there), 'every field')
    t.same((await entriesOf(ours)).map(({ id }) => id).toSorted(), ['below', 'container', 'stored', 'web'])
    t.equal((await takeover.round()).plan.entries.same, 4, 'a round more changes nothing')
  })

  await t.test('what changes at SPIRE changes here, and what was made here stays', async t => {
    await create(ours, entry('local', { selectors: [{ type: 'unix', value: 'uid:7' }] }))
    const entries = there.admin.client(entryService)
    await entries.batchDeleteEntry({ ids: ['stored', 'container'] })
    await entries.batchUpdateEntry({ entries: [entry('web', { x509SvidTtl: 1200 })] })
    // One that takes the place of one that goes.
    await entries.batchDeleteEntry({ ids: ['below'] })
    await create(there, { ...entry('below-again'), spiffeId: idMessage('spiffe://example.org/below') })
    await takeover.round()
    t.same((await entriesOf(ours)).map(({ id, x509SvidTtl }) => `${id} ${x509SvidTtl}`).toSorted(),
      ['below-again 0', 'local 0', 'web 1200'])
  })

  await t.test('a rotation on either side reaches the other', async t => {
    for (const [from, to] of [[there, ours], [ours, there]] as const) {
      const prepared = await runAssay(['localauthority', 'x509', 'prepare', '-socketPath', from.config.socketPath])
      t.equal(prepared.code, 0, prepared.stderr)
      t.equal((await runAssay(['localauthority', 'jwt', 'prepare', '-socketPath', from.config.socketPath])).code, 0)
      await takeover.round()
      t.same(await authoritiesOf(to), await authoritiesOf(from))
    }
    t.equal((await readJournal(file))?.phase, 'open', 'agents go on moving')
  })

  await t.test('what SPIRE taints and revokes goes here too; what we revoke does not come back, and is told of', async t => {
    const replace = async (server: TestServer) => {
      const authorities = server.admin.client(localAuthorityService)
      const old = { x509: await authorities.getX509AuthorityState({}), jwt: await authorities.getJWTAuthorityState({}) }
      await authorities.activateX509Authority({ authorityId: old.x509.prepared?.authorityId ?? '' })
      await authorities.activateJWTAuthority({ authorityId: old.jwt.prepared?.authorityId ?? '' })
      const [x509, jwt] = [{ authorityId: old.x509.active?.authorityId ?? '' }, { authorityId: old.jwt.active?.authorityId ?? '' }]
      await authorities.taintX509Authority(x509)
      await authorities.taintJWTAuthority(jwt)
      return async () => {
        await authorities.revokeX509Authority(x509)
        await authorities.revokeJWTAuthority(jwt)
      }
    }
    const tainted = async (server: TestServer) => {
      const { x509Authorities, jwtAuthorities } = await server.admin.client(bundleService).getBundle({})
      return [...x509Authorities, ...jwtAuthorities].filter(({ tainted }) => tainted).length
    }
    const revoke = await replace(there)
    await takeover.round()
    t.equal(await tainted(ours), 2)
    await revoke()
    await takeover.round()
    t.same(await authoritiesOf(ours), await authoritiesOf(there))
    t.equal((await authoritiesOf(ours)).length, 6)

    await (await replace(ours))()
    await takeover.round()
    t.equal((await authoritiesOf(ours)).length, 4)
    t.equal((await authoritiesOf(there)).length, 6, 'SPIRE\'s API takes none out')
    const { plan } = await takeover.look()
    t.equal(plan.findings.filter(({ code }) => code === 'authority-kept').length, 2)
  })

  const sockets = ['-spireSocketPath', there.config.socketPath, '-socketPath', ours.config.socketPath]
  const words = (verb: string) => ['takeover', verb, ...sockets, '-state', file]

  await t.test('an agent that joins with its token made anew keeps its ID', async t => {
    await t.rejects(takeover.finish(), { code: 'takeover_agents_left', message: new RegExp(agentId) })
    t.match(await runAssay(words('finish')), { code: 4, stderr: /takeover_agents_left/ })
    const made = await runAssay([...words('token'), agentId])
    t.same(made, { code: 0, stdout: `Token: ${token}\n`, stderr: '' })
    const agent = await SimulatedAgent.join(token, options(ours))
    const stop = new AbortController()
    const settled = Promise.withResolvers<void>()
    const running = agent.run(stop.signal, { onSettled: settled.resolve })
    await settled.promise
    t.match((await takeover.look()).plan.agents, [{ id: agentId, place: 'here' }])
    t.match(await runAssay(words('status')), { code: 0, stdout: /Next: assay takeover finish; nobody breaks/ })
    await t.rejects(takeover.rollBack(), { code: 'takeover_agents_moved', message: new RegExp(agentId) })
    t.equal((await entriesOf(ours)).length, 3, 'a roll-back that would break it did nothing')

    await takeover.finish()
    await t.rejects(takeover.round(), { code: 'takeover_over' })
    await create(ours, entry('later', { selectors: [{ type: 'unix', value: 'uid:8' }] }))
    await ours.admin.client(entryService).batchDeleteEntry({ ids: ['web'] })
    // What changed here since goes to SPIRE before anybody goes back there.
    await t.rejects(takeover.rollBack(), { code: 'takeover_agents_moved' })
    t.same((await entriesOf(there)).map(({ id }) => id).toSorted(), ['below-again', 'later', 'local'])
    stop.abort(new Error('it goes back'))
    await running.catch(() => {})
    await eventually('our server to miss the agent', async () =>
      (await takeover.look()).plan.agents.every(({ place }) => place !== 'here'), 60_000)
  })

  await t.test('once nobody is here, the roll-back takes away what was copied', async t => {
    const rolledBack = await runAssay([...words('rollback'), '-output', 'json'])
    t.equal(rolledBack.code, 0, rolledBack.stderr)
    t.equal((JSON.parse(rolledBack.stdout) as { phase: string }).phase, 'rolled_back')
    t.same(await contentsOf(ours), [])
    t.equal((await ours.admin.client(bundleService).listFederatedBundles({})).bundles.length, 0)
    t.equal((await ours.admin.client(trustDomainService).listFederationRelationships({})).federationRelationships.length, 0)
    t.equal((await contentsOf(there)).length, 3, 'SPIRE keeps all')
    await t.rejects(takeover.rollBack(), { code: 'takeover_over' })
  })
})

await t.test('what would break somebody is refused before anything is done', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, ours, takeover, file, clock } = await twoServers(scope)
  await create(there, entry('web'), entry('db', { selectors: [{ type: 'unix', value: 'uid:2' }] }))
  const refused = async (code: string) => {
    await t.rejects(takeover.round({ begin: true, settleMs: 0 }), { code: 'takeover_blocked', message: new RegExp(`^${code} `) }, code)
    t.equal(await readJournal(file), undefined)
  }
  await create(ours, entry('web', { hint: 'another' }))
  await refused('entry-conflict')
  await ours.admin.client(entryService).batchDeleteEntry({ ids: ['web'] })
  await create(ours, { ...entry('other'), spiffeId: idMessage('spiffe://example.org/web') })
  await refused('entry-conflict')
  await ours.admin.client(entryService).batchDeleteEntry({ ids: ['other'] })
  const same = new Takeover({ there: ours.admin, ours: ours.admin, file, lock: lockOf(file), clock, attestors, signal })
  await t.rejects(same.round({ begin: true }), { code: 'takeover_blocked', message: /^same-server / })
  const relationship = (url: string) => ({ federationRelationships: [{ trustDomain: 'o.test', bundleEndpointUrl: url, httpsWeb: {} }] })
  await there.admin.client(trustDomainService).batchCreateFederationRelationship(relationship('https://a.test/'))
  await ours.admin.client(trustDomainService).batchCreateFederationRelationship(relationship('https://b.test/'))
  await refused('relationship-differs')
  await ours.admin.client(trustDomainService).batchDeleteFederationRelationship({ trustDomains: ['o.test'] })
  await takeover.round({ begin: true, settleMs: 0 })

  await t.test('SPIRE\'s entries gone at once are taken for a mistake', async t => {
    await create(there, ...Array.from({ length: 20 }, (_, n) => entry(`many-${n}`)))
    await takeover.round()
    const ids = (await entriesOf(there)).map(({ id }) => id)
    await there.admin.client(entryService).batchDeleteEntry({ ids })
    await t.rejects(takeover.round(), { code: 'takeover_blocked', message: /many-removals/ })
    t.equal((await entriesOf(ours)).length, 22)
    await takeover.round({ force: true })
    t.same(await entriesOf(ours), [])
  })
})

await t.test('killed between journal and servers, it goes on and can go back', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, ours, takeover, file, clock } = await twoServers(scope)
  await create(there, entry('web'), entry('db', { selectors: [{ type: 'unix', value: 'uid:2' }] }))
  /** Each call to our server's entries fails, as if the process had ended there; some of what it asked for was done. */
  const dying = (done: boolean) => ({
    ...ours.admin,
    [Symbol.asyncDispose]: () => ours.admin[Symbol.asyncDispose](),
    client: ((service: typeof entryService) => service.name !== entryService.name ? ours.admin.client(service) : {
      ...ours.admin.client(service),
      batchCreateEntry: async ({ entries = [] }: { entries?: readonly EntryInit[] }) => {
        if (done) await ours.admin.client(entryService).batchCreateEntry({ entries: entries.slice(0, 1) })
        throw new Error('killed')
      }
    }) as typeof ours.admin.client
  })
  for (const done of [false, true]) {
    const killed = new Takeover({ there: there.admin, ours: dying(done), file, lock: lockOf(file), clock, attestors, signal })
    await t.rejects(killed.round({ begin: true, settleMs: 0 }), /killed/)
    t.same((await readJournal(file))?.entries.toSorted(), ['db', 'web'], 'the journal knew before')
  }
  t.equal((await entriesOf(ours)).length, 1)
  await takeover.round()
  t.same(await contentsOf(ours), await contentsOf(there))
  await takeover.rollBack()
  t.same(await contentsOf(ours), [])

  await writeFile(file, '{"version":2}')
  await t.rejects(takeover.look(), { code: 'file_unusable' })
  await writeFile(file, 'no JSON')
  await t.rejects(takeover.look(), { code: 'file_unusable' })
})

await t.test('a server that comes back without its keys and its data', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, ours, takeover, file, clock } = await twoServers(scope)
  await create(there, ...Array.from({ length: 12 }, (_, n) => entry(`many-${n}`)))
  await takeover.round({ begin: true, settleMs })
  await clock.advance(settleMs)
  await takeover.round()
  const fresh = scope.use(await startTestServer())
  const between = (there: TestServer, ours: TestServer) =>
    new Takeover({ there: there.admin, ours: ours.admin, file, lock: lockOf(file), clock, attestors, signal })

  await t.test('SPIRE\'s: nothing that was copied goes, nor what it signed', async t => {
    const before = [await authoritiesOf(ours), await contentsOf(ours)]
    await t.rejects(between(fresh, ours).round(), { code: 'takeover_blocked', message: /many-removals/ })
    t.same([await authoritiesOf(ours), await contentsOf(ours)], before)
    t.equal((await readJournal(file))?.phase, 'open')
  })

  await t.test('ours: what it signs by from now on everybody is to see before an agent moves', async t => {
    const again = between(there, fresh)
    await again.round()
    t.equal((await readJournal(file))?.phase, 'publishing')
    t.same(await contentsOf(fresh), [], 'no entry before')
    await t.rejects(again.finish(), { code: 'takeover_not_settled' })
    await clock.advance(settleMs)
    await again.round()
    t.same(await contentsOf(fresh), await contentsOf(there))
    t.equal((await readJournal(file))?.phase, 'open')
    const [spires, own] = [await authoritiesOf(there), await authoritiesOf(fresh)]
    t.ok(own.every(name => spires.includes(name)), 'SPIRE\'s bundle has all that sign, and what the lost server signed by')
    await again.rollBack()
    t.same(await contentsOf(fresh), [])
    t.equal((await contentsOf(there)).length, 12)
  })
})

await t.test('the end waits for a round under way, which does not undo it', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, ours, takeover, file, clock } = await twoServers(scope)
  await takeover.round({ begin: true, settleMs: 0 })
  await create(there, entry('web'))
  const [asked, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const slow = {
    [Symbol.asyncDispose]: () => ours.admin[Symbol.asyncDispose](),
    client: ((service: typeof entryService) => service.name !== entryService.name ? ours.admin.client(service) : {
      ...ours.admin.client(service),
      async batchCreateEntry (request: { entries?: readonly EntryInit[] }) {
        asked.resolve()
        await released.promise
        return await ours.admin.client(entryService).batchCreateEntry(request)
      }
    }) as typeof ours.admin.client
  }
  const round = new Takeover({ there: there.admin, ours: slow, file, lock: lockOf(file), clock, attestors, signal }).round()
  await asked.promise
  let ended = false
  const finish = takeover.finish().then(() => { ended = true })
  await takeover.look()
  t.equal(ended, false)
  released.resolve()
  await Promise.all([round, finish])
  t.equal((await readJournal(file))?.phase, 'finished')
  t.same(await contentsOf(ours), await contentsOf(there))
})

await t.test('servers may be slow: SPIRE was seen when it was asked, and authorities can be seen once they are published', async t => {
  await using scope = new AsyncDisposableStack()
  const { there, ours, file, clock } = await twoServers(scope)
  const begunAt = clock.now()
  /** Time passes while a server makes what it is asked for. */
  const slow = ({ admin }: TestServer): TestServer['admin'] => ({
    [Symbol.asyncDispose]: () => admin[Symbol.asyncDispose](),
    client: ((service: typeof bundleService) => service.name !== bundleService.name ? admin.client(service) : {
      ...admin.client(service),
      async getBundle (request: object) {
        const answer = await admin.client(bundleService).getBundle(request)
        await clock.skip(5_000)
        return answer
      },
      async appendBundle (request: object) {
        await clock.skip(20_000)
        return await admin.client(bundleService).appendBundle(request)
      }
    }) as TestServer['admin']['client']
  })
  const takeover = new Takeover({ there: slow(there), ours: slow(ours), file, lock: lockOf(file), clock, attestors, signal })
  await takeover.round({ begin: true, settleMs })
  const { lastRoundAt, publishedAt } = await readJournal(file) ?? {}
  t.same(lastRoundAt, begunAt, 'what changed at SPIRE while it told of itself may be unseen')
  t.same(publishedAt, new Date(begunAt.getTime() + 50_000), 'who follows bundles has all of the time from then on')
})

await t.test('the command line says what is wrong with it, and which server does not answer', async t => {
  await using ours = await startTestServer()
  const file = join(folder, 'none.json')
  const nobody = join(folder, 'nobody.sock')
  t.match(await runAssay(['takeover', 'plan', '-spireAddress', '127.0.0.1:1', '-state', file]), { code: 2, stderr: /usage_invalid/ })
  t.match(await runAssay(['takeover', 'plan', '-svid', 'a', '-svidKey', 'b', '-bundle', 'c']), { code: 2, stderr: /usage_invalid/ })
  t.match(await runAssay(['takeover', 'plan', '-spireSocketPath', nobody, '-socketPath', ours.config.socketPath]),
    { code: 1, stderr: /cannot reach the SPIRE server at .*nobody\.sock/ })
})
