import { createPublicKey } from 'node:crypto'
import t from 'tap'
import { firstOf } from '../../src/runtime/first-of.ts'
import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { securityHeader, startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { newKey, openServerChannel, type TestIdentity } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })

async function register (server: TestServer, agent: TestAgent, path: string, downstream: boolean): Promise<void> {
  const selectors = [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  const { results } = await server.admin.client(entryService).batchCreateEntry({
    entries: [{ spiffeId: id(path), parentId: id(agent.path), selectors, downstream }]
  })
  t.equal(results[0]?.status?.code, 0)
}

/** A server below another one, by way of an agent there. */
async function startBelow (above: TestServer, agent: TestAgent): Promise<TestServer> {
  const plugin_data = { server_address: '127.0.0.1', server_port: above.ready.port, workload_api_socket: agent.config.socketPath }
  return await startTestServer({ config: { plugins: testPlugins({ UpstreamAuthority: { spire: { plugin_data } } }) } })
}

const bundleOf = async (server: TestServer): Promise<Bundle> => decodeBundle(await server.admin.client(bundleService).getBundle({}))

async function mint (server: TestServer): Promise<readonly Uint8Array[]> {
  const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
  return (await server.admin.client(svidService).mintX509SVID({ csr })).svid?.certChain ?? []
}

async function svidOf (agent: TestAgent): Promise<Pick<TestIdentity, 'chain' | 'privateKey'>> {
  const [svid] = (await firstOf(agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)))?.svids ?? []
  if (svid === undefined) throw new Error('no SVID')
  return { chain: splitCertificates(svid.x509Svid), privateKey: svid.x509SvidKey }
}

/** What a call was refused with. */
async function statusOf (call: Promise<unknown>): Promise<string> {
  try {
    await call
  } catch (error) {
    if (error instanceof RpcError) return error.status
    throw error
  }
  return 'OK'
}

function rootOf (chain: readonly Uint8Array[]): string {
  return Buffer.from(parseCertificate(chain.at(-1) as Uint8Array).authorityKeyId ?? []).toString('hex')
}

const hasSvid = (agent: TestAgent) => svidOf(agent).then(() => true, () => false)

await t.test('three levels: chains, bundles, JWT keys; taint and revocation at the top reach the bottom', async t => {
  await using root = await startTestServer()
  await using rootAgent = await startTestAgent(root)
  await register(root, rootAgent, '/nested/one', true)
  await eventually('the identity of the server below', () => hasSvid(rootAgent))
  await using middle = await startBelow(root, rootAgent)
  await using middleAgent = await startTestAgent(middle)
  await register(middle, middleAgent, '/nested/two', true)
  await eventually('the identity of the lowest server', () => hasSvid(middleAgent))
  await using low = await startBelow(middle, middleAgent)
  await using agent = await startTestAgent(low)
  await register(low, agent, '/web', false)
  await eventually('a workload\'s identity at the bottom', () => hasSvid(agent))

  const top = await bundleOf(root)
  const { chain } = await svidOf(agent)
  t.equal(chain.length, 3, 'leaf and the CAs of two servers')
  t.equal(verifyX509Svid(chain, { bundleOf: () => top, at: new Date() }).id, 'spiffe://example.org/web', 'believed at the top')
  for (const server of [middle, low]) {
    t.same((await bundleOf(server)).x509Authorities, top.x509Authorities, 'one root everywhere')
  }
  const servers = [root, middle, low]
  const keyIds = async (server: TestServer) => (await bundleOf(server)).jwtAuthorities.map(({ keyId }) => keyId).toSorted()
  await eventually('all JWT keys to be known everywhere', async () => {
    const lists = await Promise.all(servers.map(keyIds))
    return lists.every(list => list.length === 3 && list.join() === lists[0]?.join())
  })
  for (const server of servers) {
    const { svid } = await server.admin.client(svidService).mintJWTSVID({ id: id('/minted'), audience: ['db'] })
    for (const validator of servers) {
      const bundle = await bundleOf(validator)
      const { id } = validateJwtSvid(svid?.token ?? '', { bundleOf: () => bundle, audience: ['db'], at: new Date() })
      t.equal(id, 'spiffe://example.org/minted')
    }
  }

  const authorities = root.admin.client(localAuthorityService)
  const before = (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  const { preparedAuthority } = await authorities.prepareX509Authority({})
  const after = preparedAuthority?.authorityId ?? ''
  await eventually('the new root to be known at the bottom', async () => (await bundleOf(low)).x509Authorities.length === 2)
  await authorities.activateX509Authority({ authorityId: after })
  await authorities.taintX509Authority({ authorityId: before })
  for (const [name, server] of [['middle', middle], ['low', low]] as const) {
    await eventually(`the ${name} server to sign below the new root`, async () => rootOf(await mint(server)) === after, 120_000)
  }
  await eventually('the workload\'s SVID to be replaced', async () => rootOf((await svidOf(agent)).chain) === after, 120_000)
  t.equal((await bundleOf(low)).x509Authorities.find(({ tainted }) => tainted) !== undefined, true)
  await authorities.revokeX509Authority({ authorityId: before })
  await eventually('the old root to be gone at the bottom', async () => (await bundleOf(low)).x509Authorities.length === 1, 120_000)
  const last = await bundleOf(low)
  t.throws(() => verifyX509Svid(chain, { bundleOf: () => last, at: new Date() }), { code: 'x509_chain_untrusted' })
  t.ok(verifyX509Svid((await svidOf(agent)).chain, { bundleOf: () => last, at: new Date() }))
})

await t.test('who may ask for a CA, and with what (spire-surface §1.4, §1.6)', async t => {
  await using server = await startTestServer()
  await using agent = await startTestAgent(server)
  await register(server, agent, '/plain', false)
  await eventually('an identity', () => hasSvid(agent))
  const plain = await svidOf(agent)
  const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org'] })
  await using stranger = openServerChannel(server)
  await using workload = openServerChannel(server, plain)
  for (const [who, channel] of [['nobody', stranger], ['a workload', workload], ['an operator', server.admin]] as const) {
    t.equal(await statusOf(channel.client(svidService).newDownstreamX509CA({ csr })), 'PERMISSION_DENIED', who)
    t.equal(await statusOf(channel.client(bundleService).publishJWTAuthority({})), 'PERMISSION_DENIED', who)
  }
  await register(server, agent, '/plain2', true)
  const { results } = await server.admin.client(entryService).batchCreateEntry({
    entries: [{ spiffeId: id('/plain'), parentId: id(agent.path), selectors: [{ type: 'unix', value: 'uid:1' }], downstream: true }]
  })
  t.equal(results[0]?.status?.code, 0, 'an entry with its ID that says downstream is enough')
  const svids = workload.client(svidService)
  const { caCertChain, x509Authorities } = await svids.newDownstreamX509CA({ csr, preferredTtl: 600 })
  t.equal(caCertChain.length, 1)
  const { notAfter, isCa, uriSans } = parseCertificate(caCertChain[0] as Uint8Array)
  t.match({ isCa, uriSans }, { isCa: true, uriSans: ['spiffe://example.org'] })
  t.ok(Math.abs(notAfter.getTime() - Date.now() - 600_000) < 60_000)
  t.same(x509Authorities, (await bundleOf(server)).x509Authorities.map(({ certificate }) => certificate))
  t.equal(await statusOf(svids.newDownstreamX509CA({ csr: new Uint8Array() })), 'INVALID_ARGUMENT', 'no request')
  await t.rejects(svids.newDownstreamX509CA({ csr: csr.slice(0, -3) }), { code: 'csr_malformed' })
  t.equal(await statusOf(svids.newDownstreamX509CA({ csr, preferredTtl: -1 })), 'INVALID_ARGUMENT', 'a negative life')

  const bundles = workload.client(bundleService)
  const publicKey = createPublicKey(newKey()).export({ format: 'der', type: 'spki' })
  const expiresAt = Math.floor(Date.now() / 1000) + 600
  const published = await bundles.publishJWTAuthority({ jwtAuthority: { keyId: 'below', publicKey, expiresAt } })
  t.ok(published.jwtAuthorities.some(({ keyId }) => keyId === 'below') && published.jwtAuthorities.length === 2)
  t.same((await bundleOf(server)).jwtAuthorities.map(({ keyId }) => keyId), published.jwtAuthorities.map(({ keyId }) => keyId))
  const faults = [
    {}, { jwtAuthority: { publicKey, expiresAt } }, { jwtAuthority: { keyId: 'x', publicKey: Buffer.from('x'), expiresAt } },
    { jwtAuthority: { keyId: 'x', publicKey, expiresAt: 1 } },
    { jwtAuthority: { keyId: 'below', publicKey: createPublicKey(newKey()).export({ format: 'der', type: 'spki' }), expiresAt } }
  ]
  for (const fault of faults) t.equal(await statusOf(bundles.publishJWTAuthority(fault)), 'INVALID_ARGUMENT')
  t.equal(await statusOf(bundles.publishWITAuthority({})), 'UNIMPLEMENTED')
})
