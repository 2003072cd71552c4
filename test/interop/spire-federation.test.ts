import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import t, { type Test } from 'tap'
import type { Bundle } from '../../src/wire/generated/types.ts'
import { eventually } from '../fakes/eventually.ts'
import { withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { createWebCa } from '../federation/web-ca.ts'
import { FederatedSide, type Profile, type WebFiles } from './federated-side.ts'
import { buildGoPrograms, GoWatcher, runGoProgram, withoutGo } from './go-programs.ts'

const skip = withoutSpireServer === false ? withoutGo : withoutSpireServer
if (skip !== false) t.comment(`federation with SPIRE: skipped: ${skip}`)
else {
  await buildGoPrograms()
  if (withoutSpireAgent !== false) t.comment(`an agent of ours joins SPIRE's server: ${withoutSpireAgent}`)
}

const patienceMs = 60_000

async function webFiles (t: Test): Promise<WebFiles> {
  const ca = await createWebCa()
  const { cert, key } = await ca.certify()
  const folder = t.testdir()
  const put = async (name: string, text: string) => {
    await writeFile(join(folder, name), text)
    return join(folder, name)
  }
  return { ca: await put('ca.pem', ca.root), cert: await put('cert.pem', cert), key: await put('key.pem', key) }
}

/** Of a bundle. SPIRE publishes sequence numbers, and reads none (1.15.3). */
const keysOf = (bundle: Bundle | undefined) => bundle && {
  x509: bundle.x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString('base64')).toSorted(),
  jwt: Object.fromEntries(bundle.jwtAuthorities.map(({ keyId, publicKey }) => [keyId, Buffer.from(publicKey).toString('base64')]))
}

/** Whom the other side's agent takes a token for. */
async function validatedBy (side: FederatedSide, token: string, audience: string): Promise<unknown> {
  const { lines } = await runGoProgram('workload-client', ['validate', '-socket', side.socket, '-audience', audience], token)
  return lines[0]?.['id'] ?? lines[0]?.['code']
}

/** go-spiffe workloads that call the other side all the time, until disposed of. */
async function startCalls (from: FederatedSide, to: FederatedSide, scope: AsyncDisposableStack): Promise<GoWatcher> {
  const server = scope.use(await GoWatcher.start('workload-client', ['serve', '-socket', to.socket]))
  const { address } = await server.next('serving', 'the server', () => true, patienceMs)
  return scope.use(await GoWatcher.start('workload-client', ['call', '-socket', from.socket, '-server', String(address)]))
}

/**
 * Exchanges the X.509 and the JWT authority of one side; each step waits until the other side's workload has what the next one needs.
 * @param follow has the other server look for a new bundle
 */
async function replaceKeys (t: Test, side: FederatedSide, other: FederatedSide, follow: () => Promise<unknown>): Promise<void> {
  const { authorities } = side.admin
  const oldX509 = (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  const oldJwt = (await authorities.getJWTAuthorityState({})).active?.authorityId ?? ''
  const before = await side.jwtSvid('before')
  t.equal(await validatedBy(other, before, 'before'), side.id)

  const nextX509 = (await authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
  const nextJwt = (await authorities.prepareJWTAuthority({})).preparedAuthority?.authorityId ?? ''
  await follow()
  await other.seesAuthorities(side, 2)
  await authorities.activateX509Authority({ authorityId: nextX509 })
  await authorities.activateJWTAuthority({ authorityId: nextJwt })
  await authorities.taintX509Authority({ authorityId: oldX509 })
  await side.signedBy(nextX509)
  const after = await side.jwtSvid('after')
  t.equal(kidOf(after), nextJwt, 'the new JWT key signs')
  await eventually('the new JWT key at the other agent', async () => await validatedBy(other, after, 'after') === side.id, patienceMs)

  await authorities.revokeX509Authority({ authorityId: oldX509 })
  await authorities.taintJWTAuthority({ authorityId: oldJwt })
  await authorities.revokeJWTAuthority({ authorityId: oldJwt })
  await eventually('the old keys to be gone at the other server', async () => {
    await follow()
    return isDeepStrictEqual(keysOf(await other.bundleOf(side)), keysOf(await side.ownBundle()))
  }, patienceMs)
  await other.seesAuthorities(side, 1)
  await eventually('a token of the old key to be refused', async () =>
    await validatedBy(other, before, 'before') === 'InvalidArgument', patienceMs)
  t.equal(await validatedBy(other, after, 'after'), side.id)
}

function kidOf (token: string): unknown {
  return (JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()) as { kid?: unknown }).kid
}

for (const profile of ['https_spiffe', 'https_web'] as const satisfies readonly Profile[]) {
  await t.test(`with a real SPIRE server, both ways, by ${profile}`, { skip, timeout: 300_000 }, async t => {
    await using scope = new AsyncDisposableStack()
    const web = await webFiles(t)
    const ours = scope.use(await FederatedSide.startOurs('example.org', profile, web))
    const spire = scope.use(await FederatedSide.startSpire('spire.test', profile, web))
    const refreshAtSpire = () => spire.admin.relationships.refreshBundle({ trustDomain: 'example.org' })

    await t.test('each server fetches the other\'s bundle', async t => {
      const known = async (side: FederatedSide) => profile === 'https_spiffe' ? await side.ownBundle() : undefined
      await ours.relateTo(spire, profile, await known(spire))
      await spire.relateTo(ours, profile, await known(ours))
      await eventually('SPIRE\'s bundle here', async () => await ours.bundleOf(spire) !== undefined, patienceMs)
      await eventually('our bundle there', async () => await spire.bundleOf(ours) !== undefined, patienceMs)
      await ours.admin.relationships.refreshBundle({ trustDomain: 'spire.test' })
      await refreshAtSpire()
      t.same(keysOf(await ours.bundleOf(spire)), keysOf(await spire.ownBundle()), 'FED-10 TDB-15 SPIRE\'s keys')
      t.same(keysOf(await spire.bundleOf(ours)), keysOf(await ours.ownBundle()), 'FED-10 TDB-15 our keys')
      t.equal((await ours.bundleOf(spire))?.sequenceNumber, (await spire.ownBundle()).sequenceNumber)
      t.equal((await ours.bundleOf(spire))?.refreshHint, 1n)
      t.equal((await spire.bundleOf(ours))?.refreshHint, 1n)
    })

    await ours.register()
    await spire.register()
    const toSpire = await startCalls(ours, spire, scope)
    const toOurs = await startCalls(spire, ours, scope)
    const calls = [[toSpire, spire], [toOurs, ours]] as const

    await t.test('workloads are strangers until their entries federate', async t => {
      for (const [caller] of calls) t.match((await caller.next('call', 'a refusal', () => true, patienceMs))['refused'], /./)
      t.equal(await validatedBy(ours, await spire.jwtSvid('early'), 'early'), 'InvalidArgument')
      t.equal(await validatedBy(spire, await ours.jwtSvid('early'), 'early'), 'InvalidArgument')
    })

    await t.test('then X509-SVIDs and JWT-SVIDs of each are taken by the other', async t => {
      await ours.federateWith(spire)
      await spire.federateWith(ours)
      for (const [caller, callee] of calls) {
        const { id } = await caller.next('call', 'a call', line => line['id'] !== undefined, patienceMs)
        t.equal(id, callee.id, 'mutual TLS by go-spiffe')
      }
      t.equal(await validatedBy(ours, await spire.jwtSvid('spiffe://example.org/db'), 'spiffe://example.org/db'), spire.id)
      t.equal(await validatedBy(spire, await ours.jwtSvid('spiffe://spire.test/db'), 'spiffe://spire.test/db'), ours.id)
      t.equal(await validatedBy(ours, await spire.jwtSvid('other'), 'spiffe://example.org/db'), 'InvalidArgument', 'for us alone')
      t.equal(await validatedBy(spire, await ours.jwtSvid('other'), 'spiffe://spire.test/db'), 'InvalidArgument')
    })

    await t.test('SPIRE exchanges its keys, and we follow unasked', t => replaceKeys(t, spire, ours, async () => {}))
    await t.test('we exchange ours, and SPIRE follows', t => replaceKeys(t, ours, spire, refreshAtSpire))

    await t.test('no call failed meanwhile; calls fail once we end the relationship', async t => {
      for (const [caller] of calls) t.same(caller.unread('call'), [], 'FED-03 every handshake succeeded')
      const token = await spire.jwtSvid('late')
      t.equal(await validatedBy(ours, token, 'late'), spire.id)
      await ours.end(spire)
      for (const [caller] of calls) {
        const { refused, after } = await caller.next('call', 'the end', () => true, patienceMs)
        t.match(refused, /./)
        t.ok(Number(after) > 50, `after ${Number(after)} calls in a row`)
      }
      t.equal(await validatedBy(ours, token, 'late'), 'InvalidArgument', 'FED-31 tokens neither')
      t.not(await spire.bundleOf(ours), undefined, 'the other direction is theirs to end')
    })
  })
}
