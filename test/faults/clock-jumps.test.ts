import t from 'tap'
import { openTlsChannel } from '../../src/rpc/channel.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { verifyServerWith } from '../../src/rpc/verify-server.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import type { X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import type { Certificate } from '../../src/x509/certificate.ts'
import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'
import { Administrator } from '../interop/administrator.ts'
import { JumpingClock } from './jumping-clock.ts'
import { leafOf, Workload } from './workload.ts'

const hour = 3_600_000
const id = 'spiffe://example.org/workload'

t.test('the time of day jumps under a server and its agent', async t => {
  const clock = new JumpingClock()
  await using server = await startTestServer({
    clock, config: { caTtlSeconds: 48 * 3600, agentTtlSeconds: 12 * 3600, defaultX509SvidTtlSeconds: 60, defaultJwtSvidTtlSeconds: 60 }
  })
  await using agent = await startTestAgent(server, { clock })
  await using admin = new Administrator({ adminSocket: server.config.socketPath })
  await admin.register(id, `spiffe://example.org${agent.path}`)
  await using workload = new Workload(agent.config.socketPath)
  await workload.granted(id)

  const stop = new AbortController()
  const pushed: Array<{ leaf: Certificate, at: Date }> = []
  const watching = follow(workload, stop.signal, state => pushed.push({ leaf: leafOf(state), at: clock.now() }))
  await eventually('the first state', () => pushed.length > 0)
  const token = await workload.fetchJwt(id, 'db')

  const jumps = { 'forward, beyond the end of every SVID but the agent\'s': 2 * hour, 'back by an hour': -hour }
  for (const [name, ms] of Object.entries(jumps)) {
    await t.test(name, async t => {
      clock.jump(ms)
      const isValid = (leaf: Certificate | undefined) => leaf !== undefined && leaf.notBefore <= clock.now() && leaf.notAfter > clock.now()
      await eventually('a valid SVID is pushed', () => isValid(pushed.at(-1)?.leaf), 20_000)
      t.ok(isValid(leafOf(await workload.granted(id))), 'a new stream gets a valid one')
      const fresh = await workload.fetchJwt(id, 'db')
      const bundle = decodeBundle(await admin.bundles.getBundle({}))
      const bundleOf = (trustDomain: string) => trustDomain === bundle.trustDomain ? bundle : undefined
      const validated = validateJwtSvid(fresh, { bundleOf, audience: ['db'], at: clock.now() })
      t.equal(validated.id, id, 'a JWT-SVID is valid')
      const claims = JSON.parse(Buffer.from(fresh.split('.')[1] ?? '', 'base64url').toString()) as { iat: number }
      t.ok(claims.iat * 1000 <= clock.now().getTime(), 'and not from the future')
      t.not(fresh, token, 'and not the one from before')
      await eventually('new connections to the server', () => connects(server.ready.port, clock, bundle), 20_000)
      await workload.granted(await added(admin, agent.path, name.startsWith('back') ? 'back' : 'forward'))
      t.pass('the agent still follows the server')
    })
  }
  t.same(pushed.filter(({ leaf, at }) => leaf.notAfter <= at), [], 'no expired SVID was pushed')
  t.ok(pushed.length < 20, `${pushed.length} pushes: nothing ran wild`)
  stop.abort()
  await watching
})

t.test('forward beyond the end of the agent\'s SVID', async t => {
  const clock = new JumpingClock()
  await using server = await startTestServer({ clock, config: { caTtlSeconds: 48 * 3600, agentTtlSeconds: 600 } })
  await using agent = await startTestAgent(server, { clock })
  clock.jump(hour)
  await t.rejects(agent.ended, { code: 'agent_expired' }, 'the agent ends and says why: only a new join token helps')
})

async function added (admin: Administrator, parent: string, name: string): Promise<string> {
  await admin.register(`${id}/${name}`, `spiffe://example.org${parent}`)
  return `${id}/${name}`
}

async function connects (port: number, clock: JumpingClock, bundle: ReturnType<typeof decodeBundle>): Promise<boolean> {
  const verifyServer = verifyServerWith(() => bundle, clock)
  await using channel = openTlsChannel({ address: `127.0.0.1:${port}`, verifyServer, log: silentLogger })
  try {
    return (await channel.client(bundleService).getBundle({}, { timeoutMs: 5000 })).trustDomain === parseTrustDomain('example.org')
  } catch {
    return false
  }
}

/** As clients do, opens the stream again when it ends: an agent whose SVIDs have all expired is UNAVAILABLE for a moment. */
async function follow (workload: Workload, signal: AbortSignal, see: (state: X509SVIDResponse) => void): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const state of workload.watch(signal)) see(state)
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof RpcError) || error.code !== 'svid_unavailable') throw error
    }
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
