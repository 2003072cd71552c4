import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import { joinTrustDomain } from '../../src/agent/join.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { fetchBundle } from '../fakes/agent-client.ts'
import { securityHeader, startTestAgent } from '../fakes/agent.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { PopMachines } from '../fakes/pop-machines.ts'
import { startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'

const rebootstrap = { mode: 'auto', delayMs: 200 } as const

/** A machine with a certificate of its own, and servers that believe it, at one address. */
async function machine () {
  const folder = await mkdtemp(join(tmpdir(), 'assay-rebootstrap-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const machines = await PopMachines.create(folder)
  const { path: agentPath, plugins } = await machines.next()
  const [bindPort, { x509pop }] = [await freePort(), machines.nodeAttestors]
  return {
    folder,
    agentPath,
    startServer: () => startTestServer({
      config: { bindPort, plugins: testPlugins({ NodeAttestor: { x509pop: { plugin_data: x509pop } } }) }
    }),
    plugins
  }
}

async function register (server: TestServer, agentPath: string, path: string): Promise<void> {
  const id = (path: string) => ({ trustDomain: 'example.org', path })
  await server.admin.client(entryService).batchCreateEntry({
    entries: [{ spiffeId: id(path), parentId: id(agentPath), selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }] }]
  })
}

void t.test('an agent whose servers\' root was replaced comes back by the bundle of first contact (spire-surface §2.2)', async t => {
  const { folder, agentPath, startServer, plugins } = await machine()
  const { log, lines } = capturedLog()
  const first = await startServer()
  await using agent = await startTestAgent(first, { folder, log, config: { plugins, rebootstrap } })
  const serves = async (path: string) => {
    const call = agent.workload.client(workloadService).fetchX509SVID({}, { ...securityHeader, timeoutMs: 30_000 })
    for await (const { svids } of call) return svids[0]?.spiffeId === `spiffe://example.org${path}`
    return false
  }
  await register(first, agentPath, '/before')
  await eventually('/before is served', () => serves('/before').catch(() => false), 60_000)
  const state = async () => (JSON.parse(await readFile(join(folder, 'agent-data.json'), 'utf8')) as { svid: string[] }).svid
  const before = await state()
  await first[Symbol.asyncDispose]()

  await using second = await startServer()
  await eventually('no bundle vouches for the new server', () => lines.some(({ code }) => code === 'bootstrap_untrusted'), 60_000)
  t.ok(await serves('/before'), 'what was known is served on, since nothing better is known')
  t.strictSame(await state(), before, 'and kept: a server that comes back is known again')
  await register(second, agentPath, '/again')
  const { x509Authorities } = await fetchBundle(second)
  await writeFile(join(folder, 'bundle.pem'), x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join(''))
  await eventually('it is an agent of the new server', () => serves('/again').catch(() => false), 60_000)
  t.notSame(await state(), before, 'nothing is left of what it was')
  t.notOk(await serves('/before'))
})

void t.test('who may not come back so', async t => {
  const { folder, startServer, plugins } = await machine()
  const { log, lines } = capturedLog()
  {
    await using server = await startServer()
    await using _ = await startTestAgent(server, { folder, log, config: { plugins } })
  }
  await using server = await startServer()
  await using agent = await startTestAgent(server, { folder, log, config: { plugins } })
  await eventually('it knows better', () => lines.filter(({ code }) => code === 'server_untrusted').length > 1, 60_000)
  t.notOk(lines.some(({ msg }) => /first contact/.test(String(msg))), 'never, by default: the bundle beside it would vouch for the server')
  await agent[Symbol.asyncDispose]()

  await using token = await startTestAgent(server, { log, config: { rebootstrap } })
  t.match(lines.find(({ msg }) => msg === 'rebootstrap_mode has no effect'), { level: 'warn', reason: /attest again/ }, 'auto: it is told')
  await token[Symbol.asyncDispose]()
  await t.rejects(startTestAgent(server, { config: { rebootstrap: { ...rebootstrap, mode: 'always' } } }), {
    code: 'config_invalid', message: /rebootstrap_mode: is always/
  }, 'who joins by a token cannot attest again')
  const { bundle: known } = await createTestAuthority('example.org')
  const trusting = { ...token.config, trustBundlePath: undefined, insecureBootstrap: true }
  const attestor = { name: 'join_token', attest: async function * () { yield Buffer.from('some token') } }
  await t.rejects(joinTrustDomain(trusting, { attestor, clock: systemClock, log, known }, AbortSignal.timeout(60_000)), {
    code: 'bootstrap_untrusted'
  }, 'insecure_bootstrap is for who knows nobody yet, not for who attests again')
  const read = (keys: string) => parseAgentConfig({
    file: { name: 'a', text: `agent: { trust_domain: a, server_address: b, server_port: 1, ${keys} }` }
  })
  t.strictSame(read('trust_bundle_path: p, rebootstrap_mode: auto').rebootstrap, { mode: 'auto', delayMs: 600_000 }, 'SPIRE\'s delay')
  t.equal(read('trust_bundle_path: p').rebootstrap, undefined, 'SPIRE\'s mode is never')
  t.throws(() => read('insecure_bootstrap: true, rebootstrap_mode: always'), { code: 'config_invalid', message: /insecure_bootstrap/ })
})
