import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { contentOf } from '../../src/takeover/diff-entries.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import type { Bundle } from '../../src/wire/generated/types.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { attestOver, openServerChannel } from '../fakes/agent-client.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer } from '../fakes/server.ts'
import { startSpireServer, withoutSpireServer } from '../fakes/spire.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'

t.setTimeout(240_000)
if (withoutSpireServer !== false) t.comment(`takeover from a real SPIRE server: skipped: ${withoutSpireServer}`)

const authoritiesOf = ({ x509Authorities, jwtAuthorities }: Bundle) =>
  [...x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString('hex')), ...jwtAuthorities.map(({ keyId }) => keyId)].toSorted()

await t.test('from a real SPIRE server and back, by command line', { skip: withoutSpireServer, timeout: 240_000 }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const port = await freePort()
  const endpoint = { address: '127.0.0.1', port, refresh_hint: '1s', profile: { https_spiffe: {} } }
  const spire = scope.use(await startSpireServer({ config: { federation: { bundle_endpoint: endpoint } } }))
  const ours = scope.use(await startTestServer())
  const there = scope.use(new Administrator(spire))
  const here = scope.use(new Administrator({ adminSocket: ours.config.socketPath }))
  const file = join(folder, 'takeover.json')
  const words = ['-spireSocketPath', spire.adminSocket, '-socketPath', ours.config.socketPath, '-state', file]
  const assay = (...command: readonly string[]) => runAssay(['takeover', ...command, ...words])
  const contents = async (side: Administrator) => (await side.entries.listEntries({})).entries.map(contentOf).toSorted()

  const parent = 'spiffe://example.org/spire/agent/x509pop/0123456789abcdef0123456789abcdef01234567'
  await there.setBundle(encodeBundle((await createTestAuthority('partner.test')).bundle))
  const entryId = await there.register('spiffe://example.org/web', parent, {
    x509SvidTtl: 600, jwtSvidTtl: 60, federatesWith: ['partner.test'], dnsNames: ['web.test', 'www.test'], hint: 'public', admin: true,
    expiresAt: 4_000_000_000, additionalAttributes: { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true }
  })
  await there.register('spiffe://example.org/nodes', 'spiffe://example.org/spire/server', {
    selectors: [{ type: 'x509pop', value: 'subject:cn:host-1' }, { type: 'x509pop', value: 'san:rack:7' }]
  })
  await there.register('spiffe://example.org/below', parent, { downstream: true })
  const other = {
    trustDomain: 'other.test', bundleEndpointUrl: 'https://127.0.0.1:1/',
    httpsSpiffe: { endpointSpiffeId: 'spiffe://other.test/spire/server' }
  }
  await there.relationships.batchCreateFederationRelationship({
    federationRelationships: [{
      ...other,
      trustDomainBundle: encodeBundle((await createTestAuthority('other.test')).bundle)
    }]
  })

  t.match(await assay('plan'), { code: 0, stdout: /not begun[\s\S]*0 the same, 3 to copy[\s\S]*server-below/ })
  t.match(await assay('status'), { code: 3 })
  t.same(await contents(here), [])
  const started = await assay('start', '-settle', '0')
  t.match(started, { code: 0, stdout: /3 the same/ })
  t.same(authoritiesOf(await here.bundles.getBundle({})), authoritiesOf(await there.bundles.getBundle({})), 'both say the same')
  t.equal((await there.bundles.getBundle({})).x509Authorities.length, 2)
  t.same(await contents(here), await contents(there), 'each field of each entry')
  t.equal((await here.entries.getEntry({ id: entryId })).id, entryId, 'its ID too')
  t.match((await here.relationships.listFederationRelationships({})).federationRelationships, [{
    ...other
  }])
  const { bundles } = await here.bundles.listFederatedBundles({})
  t.same(bundles.map(({ trustDomain }) => trustDomain).toSorted(), ['other.test', 'partner.test'])
  t.match(await assay('status'), { code: 0, stdout: /each side has the other's authorities/ })

  await t.test('SPIRE exchanges its authority while both run', async t => {
    const { preparedAuthority } = await there.authorities.prepareX509Authority({})
    await there.authorities.prepareJWTAuthority({})
    t.match(await assay('status'), { code: 3, stdout: /1 X.509 and 1 JWT of SPIRE to ours/ })
    t.equal((await assay('start')).code, 0)
    t.same(authoritiesOf(await here.bundles.getBundle({})), authoritiesOf(await there.bundles.getBundle({})))
    await there.authorities.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
    const prepared = (await here.authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
    t.equal((await assay('start')).code, 0)
    t.same(authoritiesOf(await there.bundles.getBundle({})), authoritiesOf(await here.bundles.getBundle({})))

    const old = (await there.authorities.getX509AuthorityState({})).old?.authorityId ?? ''
    await there.authorities.taintX509Authority({ authorityId: old })
    t.equal((await assay('start')).code, 0)
    t.equal((await here.bundles.getBundle({})).x509Authorities.filter(({ tainted }) => tainted).length, 1, 'tainted there, tainted here')
    await there.authorities.revokeX509Authority({ authorityId: old })
    t.equal((await assay('start')).code, 0)
    t.same(authoritiesOf(await here.bundles.getBundle({})), authoritiesOf(await there.bundles.getBundle({})), 'revoked there, revoked here')

    const ownOld = (await here.authorities.getX509AuthorityState({})).active?.authorityId ?? ''
    await here.authorities.activateX509Authority({ authorityId: prepared })
    await here.authorities.taintX509Authority({ authorityId: ownOld })
    await here.authorities.revokeX509Authority({ authorityId: ownOld })
    t.match(await assay('start'), { code: 0, stdout: /authority-kept .*: revoked here, the X\.509 authority stays in SPIRE's bundle/ })
    t.equal((await here.bundles.getBundle({})).x509Authorities.length, 2, 'it does not come back from there')
  })

  await t.test('a partner that follows SPIRE\'s bundle endpoint knows our authorities before they sign', async t => {
    await using partner = await startTestServer({ config: { trustDomain: parseTrustDomain('partner.test') } })
    await using operator = new Administrator({ adminSocket: partner.config.socketPath })
    const { results } = await operator.relationships.batchCreateFederationRelationship({
      federationRelationships: [{
        trustDomain: 'example.org', bundleEndpointUrl: `https://127.0.0.1:${port}/`, trustDomainBundle: await there.bundles.getBundle({}),
        httpsSpiffe: { endpointSpiffeId: 'spiffe://example.org/spire/server' }
      }]
    })
    t.equal(results[0]?.status?.code, 0, results[0]?.status?.message ?? 'no answer')
    const { preparedAuthority } = await here.authorities.prepareX509Authority({})
    t.equal((await assay('start')).code, 0)
    await eventually('the prepared authority at the partner', async () => {
      try {
        await operator.relationships.refreshBundle({ trustDomain: 'example.org' })
      } catch (error) {
        // Until SPIRE's server looks again, it shows a certificate of the authority that was revoked above.
        if (error instanceof RpcError && error.code === 'bundle_endpoint_untrusted') return false
        throw error
      }
      const { x509Authorities } = await operator.bundles.getFederatedBundle({ trustDomain: 'example.org' })
      return x509Authorities.some(({ asn1 }) =>
        Buffer.from(parseCertificate(asn1).subjectKeyId ?? []).toString('hex') === preparedAuthority?.authorityId)
    }, 60_000)
    const shown = await operator.bundles.getFederatedBundle({ trustDomain: 'example.org' })
    t.same(authoritiesOf(shown), authoritiesOf(await there.bundles.getBundle({})), 'all that either server signs with')
  })

  await t.test('a join token made anew gives an agent the same ID at our server, and at SPIRE\'s again', async t => {
    const { value } = await there.agents.createJoinToken({ ttl: 600 })
    const id = `spiffe://example.org/spire/agent/join_token/${value}`
    const join = async (port: number) => {
      await using channel = openServerChannel({ ready: { port } })
      const { chain: [leaf] } = await attestOver(channel, value)
      return parseCertificate(leaf as Uint8Array).uriSans
    }
    const atSpire = Number(spire.address.split(':')[1])
    t.same(await join(atSpire), [id])
    await t.rejects(join(atSpire), 'it is used')
    for (const [where, port] of [['ours', ours.ready.port], ['spire', atSpire]] as const) {
      t.same(await assay('token', '-at', where, id), { code: 0, stdout: `Token: ${value}\n`, stderr: '' })
      t.same(await join(port), [id], where)
    }
    t.match(await assay('token', 'spiffe://example.org/spire/agent/join_token/nobody'), { code: 1, stderr: /agent_not_found/ })
    t.match(await assay('token', 'spiffe://example.org/web'), { code: 1, stderr: /agent_id_malformed/ })
    await there.agents.deleteAgent({ id: idMessage(id) })
  })

  await t.test('by an SVID that administers SPIRE, over TCP', async t => {
    const admin = 'spiffe://example.org/admin'
    await there.register(admin, parent, { admin: true })
    const minted = await runAssay(['x509', 'mint', '-spiffeID', admin, '-write', folder, '-socketPath', spire.adminSocket])
    t.equal(minted.code, 0, minted.stderr)
    const bundle = join(folder, 'own-bundle.pem')
    await writeFile(bundle, (await there.bundles.getBundle({})).x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join(''))
    const over = ['-spireAddress', spire.address, '-svid', join(folder, 'svid.pem'), '-svidKey', join(folder, 'key.pem'), '-bundle', bundle]
    const rest = ['-socketPath', ours.config.socketPath, '-state', file]
    t.match(await runAssay(['takeover', 'plan', ...over, ...rest]), { code: 0, stdout: /3 the same, 1 to copy/ })
  })

  await t.test('run follows SPIRE until it is told to stop', async t => {
    const id = await there.register('spiffe://example.org/late', parent, { selectors: [{ type: 'unix', value: 'uid:5' }] })
    const { startTakeoverRun } = await import('./run-takeover.ts')
    await using run = startTakeoverRun([...words, '-interval', '200ms'])
    await eventually('the entry here', async () => (await contents(here)).length === 5, 60_000)
    await there.unregister(id)
    await eventually('the entry gone here', async () => (await contents(here)).length === 4, 60_000)
    t.same(await contents(here), await contents(there))
    t.equal(await run.stop(), 0)
  })

  await t.test('finished, what changes here goes back with the roll-back', async t => {
    t.match(await assay('finish'), { code: 0, stdout: /finished/ })
    await here.register('spiffe://example.org/new', parent, { selectors: [{ type: 'unix', value: 'uid:6' }] })
    await here.unregister(entryId)
    const before = await contents(here)
    t.match(await assay('rollback'), { code: 0, stdout: /rolled back/ })
    t.same(await contents(there), before, 'SPIRE has it')
    t.same(await contents(here), [])
    t.match(await assay('rollback'), { code: 1, stderr: /takeover_over/ })
  })
})
