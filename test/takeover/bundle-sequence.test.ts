import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { mostRaisedSequence } from '../../src/spiffe/bundle-change.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { raisedSequence } from '../../src/takeover/bundle-sequence.ts'
import { readJournal } from '../../src/takeover/journal.ts'
import { federationService } from '../../src/wire/generated/federation.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { openRelay } from '../fakes/relay.ts'
import { startTestReplicas } from '../fakes/replicas.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { noFederation, startTestServer, type TestServer } from '../fakes/server.ts'
import { startSpireServer, withoutSpireServer } from '../fakes/spire.ts'
import { Administrator } from '../interop/administrator.ts'

t.setTimeout(240_000)
if (withoutSpireServer !== false) t.comment(`a partner that goes from a real SPIRE server to ours: skipped: ${withoutSpireServer}`)

const folder = await mkdtemp(join(tmpdir(), 'assay-sequence-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
const federation = {
  ...noFederation, leastRefreshMs: 100,
  bundleEndpoint: { address: '127.0.0.1', port: 0, refreshHintSeconds: 3600, profileNamed: true, profile: { kind: 'https_spiffe' } }
} as const

const sequenceOf = async ({ admin }: TestServer) => (await admin.client(bundleService).getBundle({})).sequenceNumber
const raise = ({ admin }: TestServer, sequenceNumber: bigint) => admin.client(federationService).raiseBundleSequence({ sequenceNumber })

await t.test('to one more than what partners may have seen, where that is needed and sane', t => {
  t.equal(raisedSequence({ there: 40n, here: 3n }), 41n)
  t.equal(raisedSequence({ there: 40n, here: 40n }), 41n, 'the same number would be the same bundle')
  t.equal(raisedSequence({ there: 40n, here: 41n }), undefined)
  t.equal(raisedSequence({ there: mostRaisedSequence - 1n, here: 1n }), mostRaisedSequence)
  t.equal(raisedSequence({ there: mostRaisedSequence, here: 1n }), undefined)
  t.end()
})

await t.test('TDB-06 a bundle\'s number is raised, never lowered, and goes on from there, also after a restart', async t => {
  const home = await mkdtemp(join(folder, 'server-'))
  {
    await using server = await startTestServer({ folder: home })
    const { x509Authorities: before } = await server.admin.client(bundleService).getBundle({})
    t.same(await raise(server, 1_000n), { sequenceNumber: 1_000n })
    t.same(await raise(server, 7n), { sequenceNumber: 1_000n }, 'a lower one changes nothing')
    await t.rejects(raise(server, mostRaisedSequence + 1n), { code: 'argument_invalid' })
    await t.rejects(raise(server, 2n ** 64n - 1n), { code: 'argument_invalid' })
    t.equal(await sequenceOf(server), 1_000n)
    t.same((await server.admin.client(bundleService).getBundle({})).x509Authorities, before, 'its content stays')
  }
  await using again = await startTestServer({ folder: home })
  const shown = await sequenceOf(again)
  t.ok(shown >= 1_000n, `${shown}`)
  await again.admin.client(localAuthorityService).prepareJWTAuthority({})
  t.equal(await sequenceOf(again), shown + 1n)
})

await t.test('all replicas on PostgreSQL show the number that one of them was told', { skip: postgresMissing() }, async t => {
  await using postgres = await startPostgres()
  await using replicas = await startTestReplicas(postgres.url, 2)
  const [one, two] = replicas.servers as [TestServer, TestServer]
  await raise(one, 5_000n)
  await eventually('the number at the other replica', async () => await sequenceOf(two) === 5_000n, 60_000)
  t.same(await Promise.all([raise(one, 6_000n), raise(two, 5_500n)]).then(() => raise(two, 1n)), { sequenceNumber: 6_000n })
  await two.admin.client(localAuthorityService).prepareJWTAuthority({})
  t.equal(await sequenceOf(two), 6_001n)
})

await t.test('a partner that followed a SPIRE server with many rotations takes our bundle once the endpoint has moved',
  { skip: withoutSpireServer, timeout: 240_000 }, async t => {
    await using scope = new AsyncDisposableStack()
    const port = await freePort()
    const endpoint = { address: '127.0.0.1', port, refresh_hint: '1s', profile: { https_spiffe: {} } }
    const spire = scope.use(await startSpireServer({ config: { federation: { bundle_endpoint: endpoint } } }))
    const ours = scope.use(await startTestServer({ config: { federation } }))
    const partner = scope.use(await startTestServer({ config: { federation, trustDomain: parseTrustDomain('partner.test') } }))
    const there = scope.use(new Administrator(spire))
    const here = scope.use(new Administrator({ adminSocket: ours.config.socketPath }))
    const operator = scope.use(new Administrator({ adminSocket: partner.config.socketPath }))
    const name = scope.use(await openRelay(port))
    name.open()

    const rotate = async (times: number) => {
      for (let n = 0; n < times; n++) {
        await there.authorities.prepareJWTAuthority({})
        const { activatedAuthority } = await there.authorities.activateJWTAuthority({
          authorityId: (await there.authorities.getJWTAuthorityState({})).prepared?.authorityId ?? ''
        })
        t.ok(activatedAuthority)
        const old = { authorityId: (await there.authorities.getJWTAuthorityState({})).old?.authorityId ?? '' }
        await there.authorities.taintJWTAuthority(old)
        await there.authorities.revokeJWTAuthority(old)
      }
    }
    const seen = async () => await operator.bundles.getFederatedBundle({ trustDomain: 'example.org' })
    const follow = async (what: string, sequence: () => Promise<bigint>) => eventually(what, async () => {
      await operator.relationships.refreshBundle({ trustDomain: 'example.org' })
      return (await seen()).sequenceNumber === await sequence()
    }, 60_000)
    const spires = async () => (await there.bundles.getBundle({})).sequenceNumber
    const own = async () => (await here.bundles.getBundle({})).sequenceNumber

    await rotate(8)
    const { results } = await operator.relationships.batchCreateFederationRelationship({
      federationRelationships: [{
        trustDomain: 'example.org', bundleEndpointUrl: `https://127.0.0.1:${name.port}/`, trustDomainBundle: await there.bundles.getBundle({}),
        httpsSpiffe: { endpointSpiffeId: 'spiffe://example.org/spire/server' }
      }]
    })
    t.equal(results[0]?.status?.code, 0, results[0]?.status?.message ?? 'no answer')
    await follow('what SPIRE shows', spires)
    t.ok(await spires() > await own() + 20n, `SPIRE's ${await spires()} is far beyond ours, ${await own()}`)

    const file = join(folder, 'takeover.json')
    const words = ['-spireSocketPath', spire.adminSocket, '-socketPath', ours.config.socketPath, '-state', file]
    const assay = (...command: readonly string[]) => runAssay(['takeover', ...command, ...words])
    t.match(await assay('plan'), { code: 0 })
    t.equal((await assay('start', '-settle', '0')).code, 0)
    t.equal(await own(), await spires() + 1n)
    t.equal((await readJournal(file))?.sequenceRaisedTo, `${await own()}`)
    await rotate(2)
    t.ok(await spires() > await own())
    t.equal((await assay('start')).code, 0)
    t.ok(await own() > await spires(), 'SPIRE\'s rotations on the way are passed as well')
    await follow('what SPIRE shows after its rotations', spires)

    const before = await seen()
    const { port: oursPort } = await ours.bundleEndpoint
    name.leadTo(oursPort)
    await follow('our bundle at the partner', own)
    const after = await seen()
    t.ok(after.sequenceNumber > before.sequenceNumber)
    t.same(after.x509Authorities.length, before.x509Authorities.length, 'the same authorities, under a higher number')
    const { preparedAuthority } = await here.authorities.prepareJWTAuthority({})
    await follow('what we prepare', own)
    t.ok((await seen()).jwtAuthorities.some(({ keyId }) => keyId === preparedAuthority?.authorityId))

    t.equal((await assay('start')).code, 0)
    t.match(await assay('rollback'), { code: 0, stdout: /bundle-sequence .*partners that fetched ours take SPIRE's for an old one/ })
    t.ok(await own() > await spires(), 'the number stays, whatever is rolled back')
    name.leadTo(port)
    await t.rejects(operator.relationships.refreshBundle({ trustDomain: 'example.org' }), { code: 'fetched_bundle_older' },
      'what the plan says of the way back')
    await there.authorities.prepareJWTAuthority({})
    await there.authorities.prepareX509Authority({})
    await follow('SPIRE\'s bundle again, once it has passed ours', spires)
  })
