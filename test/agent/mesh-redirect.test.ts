import t from 'tap'
import { WorkloadRedirects } from '../../src/agent/mesh-redirect.ts'
import type { MeshWorkload } from '../../src/mesh/mesh-state.ts'
import type { LocalWorkloads } from '../../src/mesh/workloads/workload-registry.ts'
import { Watchable } from '../../src/runtime/watchable.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'

const workload = (uid: string): MeshWorkload => ({ uid, name: uid, netnsPath: `/run/netns/${uid}`, addresses: [], id: idOf(`/${uid}`) })

/** A node's workloads over rules that can be made to fail. */
async function setUp () {
  const clock = new ManualClock()
  const { log, lines } = capturedLog()
  const state = new Watchable<LocalWorkloads>({ workloads: [], identities: new Map() })
  const failing = new Set<string>()
  const tried: string[] = []
  const stop = new AbortController()
  const redirects = new WorkloadRedirects({
    registry: {
      watch: signal => state.watch(signal),
      get arrivals () { return state.value.workloads.map(one => ({ ...one, selectors: [] })) }
    },
    rules: {
      async apply (path) {
        tried.push(path.slice('/run/netns/'.length))
        if (failing.has(path)) throw new SpiffeError('redirect_failed', 'nft refused: resource busy')
        return { tool: 'nft' }
      }
    },
    isPod: uid => uid === 'pod',
    clock, log
  })
  const running = redirects.run(stop.signal)
  return {
    clock, failing, tried, lines, redirects,
    set: async (...uids: string[]) => { state.set({ workloads: uids.map(workload), identities: new Map() }); await settle() },
    async [Symbol.asyncDispose] () { stop.abort(new Error('over')); await running }
  }
}

void t.test('rules that cannot be written are tried again though nothing changes: until then a workload speaks in the clear', async t => {
  await using node = await setUp()
  node.failing.add('/run/netns/a')
  await node.set('a', 'b', 'pod')
  t.same(node.tried, ['a', 'b'], 'one that fails holds up no other')
  await node.clock.advance(1_000)
  await node.clock.advance(2_000)
  t.same(node.tried, ['a', 'b', 'a', 'a'], 'with growing pauses')
  t.equal(node.lines.filter(({ level }) => level === 'error').length, 3)
  const patience = new AbortController()
  t.equal(await node.redirects.untilDone('b', patience.signal), true)
  const waiting = node.redirects.untilDone('a', patience.signal)
  const impatient = node.redirects.untilDone('a', AbortSignal.abort())
  t.equal(await impatient, false)
  node.failing.clear()
  await node.clock.advance(4_000)
  t.same(node.tried, ['a', 'b', 'a', 'a', 'a'])
  t.equal(await waiting, true, 'who waits for it is told')
  await node.clock.advance(600_000)
  t.equal(node.tried.length, 5, 'what is redirected is left alone')
})

void t.test('who arrives is not kept waiting by one that fails, and one that left and came again is redirected anew', async t => {
  await using node = await setUp()
  node.failing.add('/run/netns/a')
  await node.set('a')
  await node.set('a', 'b')
  t.same(node.tried, ['a', 'a', 'b'])
  await node.set()
  await node.clock.advance(60_000)
  t.same(node.tried, ['a', 'a', 'b'], 'one that has gone is not tried again')
  node.failing.clear()
  await node.set('b')
  t.same(node.tried, ['a', 'a', 'b', 'b'])
})
