import { createPublicKey } from 'node:crypto'
import t from 'tap'
import type { AgentState } from '../../src/agent/agent-state.ts'
import { AgentSvid, agentState, newAgentKey } from '../../src/agent/agent-svid.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'
import { eventually } from '../fakes/eventually.ts'

const hourMs = 3_600_000

await t.test('who is renewed turns to a new connection at once; after a slow renewal, when the others had their turn', async t => {
  const pauses: Record<string, [tookMs: number, lifeMs: number, pauseMs: number]> = {
    'a server that answers in time is not busy': [900, hourMs, 0],
    'ten times as long as it took, at the most': [2_000, hourMs, 10_000],
    'and not longer than half a minute': [20_000, hourMs, 15_000],
    'nor than a quarter of what the old SVID has left, with which the connection ends': [2_000, 40_000, 5_000]
  }
  for (const [what, [tookMs, lifeMs, pauseMs]] of Object.entries(pauses)) {
    const once = await renewOnce(tookMs, lifeMs)
    const { events, clock } = once
    t.same(events, pauseMs === 0 ? ['renewed', 'reconnected'] : ['renewed'], what)
    await clock.advance(pauseMs - 1)
    t.equal(events.length, pauseMs === 0 ? 2 : 1, `${what}: not before`)
    await clock.advance(1)
    t.same(events, ['renewed', 'reconnected'], `${what}: then`)
    await once.stop()
  }
})

await t.test('whether it can attest again is what the server said last (spire-surface §2.2)', async t => {
  const cases = [[true, false, false], [false, true, true], [true, undefined, true], [false, undefined, false]] as const
  for (const [before, said, after] of cases) {
    const once = await renewOnce(0, hourMs, before, said)
    const { svid, written } = once
    t.equal(svid.canReattest, after, `${before}, then ${said ?? 'nothing'}`)
    t.equal(written.at(-1)?.canReattest, after, 'and is kept')
    await once.stop()
  }
})

await t.test('with a full disk it is renewed and bundles are taken all the same, and written when there is room', async t => {
  const { log, lines } = capturedLog()
  const disk = { isFull: true }
  const once = await renewOnce(0, hourMs, true, undefined, { disk, log })
  const { svid, written, events, clock } = once
  t.same(events, ['renewed', 'reconnected'], 'of one that attests anew, the old SVID is worth nothing any more')
  t.ok(svid.notAfter.getTime() > clock.now().getTime() + hourMs)
  const bundle = { ...svid.bundle, sequenceNumber: 7n }
  await svid.setBundle(bundle)
  t.equal(svid.bundle, bundle, 'what the server says does not wait for the disk')
  await clock.advance(5_000)
  await settle()
  t.same(written, [])
  t.equal(lines.filter(({ level }) => level === 'error').length, 1, 'it is told of once')
  disk.isFull = false
  await eventually('it is written', async () => { await clock.advance(5_000); return written.length > 0 })
  t.same(written.map(({ chain, bundle }) => ({ chain, bundle })), [{ chain: svid.identity.chain, bundle }])
  disk.isFull = true
  await svid.setCacheGeneration(4)
  disk.isFull = false
  await once.stop()
  t.equal(written.at(-1)?.cacheGeneration, 4, 'also at the end, for who comes next')
})

await t.test('a fault that is none of the disk\'s is not taken for one', async t => {
  const once = await renewOnce(0, hourMs)
  once.fault = new Error('a bug')
  await t.rejects(once.svid.setCacheGeneration(4), { message: 'a bug' })
  await once.stop()
})

/**
 * Half of the longest pause is drawn.
 * @param lifeMs what is left of the SVID, which is due for renewal
 * @param reattests what the server says at the renewal
 */
async function renewOnce (
  tookMs: number, lifeMs: number, canReattest = false, reattests?: boolean, { disk = { isFull: false }, log = silentLogger } = {}
) {
  const clock = new ManualClock()
  const authority = await createTestAuthority('example.org', { notBefore: new Date('2025-12-01'), notAfter: new Date('2027-01-01') })
  const issuer = prepareLeafIssuer(authority.certificate, authority.signer)
  const sign = async (publicKey: Uint8Array, notBefore: number, notAfter: number) => [await issuer.issue({
    id: idOf('/spire/agent/join_token/node'), dnsNames: [], publicKey, notBefore: new Date(notBefore), notAfter: new Date(notAfter)
  })]
  const key = newAgentKey()
  const now = clock.now().getTime()
  const chain = await sign(createPublicKey(key).export({ format: 'der', type: 'spki' }), now - 2 * lifeMs, now + lifeMs)
  const written: AgentState[] = []
  const once = { fault: undefined as Error | undefined }
  const svid = new AgentSvid(agentState(chain, key, { bundle: authority.bundle, canReattest, cacheGeneration: 0 }), {
    store: {
      folder: undefined,
      async read () { return undefined },
      async write (state) {
        if (once.fault !== undefined) throw once.fault
        if (disk.isFull) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' })
        written.push(state)
      },
      async remove () {}
    },
    clock, log, random: () => 0.5
  })
  const events: string[] = []
  const stopping = new AbortController()
  const running = svid.run(async csr => {
    await clock.sleep(tookMs)
    const chain = await sign(parseCertificateRequest(csr).publicKey, now, now + 10 * hourMs)
    return { chain, ...reattests === undefined ? {} : { canReattest: reattests } }
  }, {
    onRenewed: () => { events.push('renewed') },
    async reconnect () { events.push('reconnected') }
  }, stopping.signal).catch(() => undefined)
  if (tookMs > 0) await eventually('it asks', () => clock.sleeping > 0)
  await clock.advance(tookMs)
  // Signing is the thread pool's.
  await eventually('it is renewed', () => events.length > 0)
  await settle()
  return Object.assign(once, { svid, written, events, clock, async stop () {
    stopping.abort(new Error('over'))
    await running
  } })
}
