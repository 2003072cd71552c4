import t from 'tap'
import { conditionsOf, readySaying, type Readiness, type Saying } from '../../src/controller/status/conditions.ts'
import type { ResourceStatus } from '../../src/controller/status/resource-statuses.ts'
import { StatusWriter } from '../../src/controller/status/status-writer.ts'
import { KubeRefusal } from '../../src/controller/kubernetes/kube-client.ts'
import type { KubeObject } from '../../src/controller/kubernetes/kube-object.ts'
import { readClusterStaticEntry } from '../../src/controller/resources/cluster-static-entry.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { ManualClock } from '../fakes/clock.ts'

const ready: Readiness = { ready: true, reason: 'Reconciled', message: '' }
const refused: Readiness = { ready: false, reason: 'Refused', message: 'no bundle' }
const use = (status: Saying['status']): Saying => ({ type: 'InUse', status, reason: 'Waiting', message: '0 of 1' })
const { signal } = new AbortController()

void t.test('conditions', async t => {
  const now = new Date('2026-03-01T00:00:00.500Z')
  const first = conditionsOf(undefined, [readySaying(refused)], 3, now)
  t.strictSame(first, [{
    type: 'Ready', status: 'False', reason: 'Refused', message: 'no bundle', observedGeneration: 3,
    lastTransitionTime: '2026-03-01T00:00:00Z'
  }])
  const later = new Date('2026-03-02T00:00:00Z')
  const other = { type: 'Other', status: 'True' }
  const kept = conditionsOf(
    [other, ...first], [readySaying({ ...refused, reason: 'Foreign', message: 'x'.repeat(5_000) }), use('False')], 4, later
  )
  const expected = { reason: 'Foreign', observedGeneration: 4, lastTransitionTime: '2026-03-01T00:00:00Z' }
  t.match(kept, [other, expected, { type: 'InUse', lastTransitionTime: '2026-03-02T00:00:00Z' }], 'each time is of its status')
  t.equal(String(kept[1]?.['message']).length, 1_024)
  const third = conditionsOf(kept, [readySaying(ready), use('False')], 4, new Date('2026-03-03T00:00:00Z'))
  t.match(third[1], { status: 'True', lastTransitionTime: '2026-03-03T00:00:00Z' })
  t.match(third[2], { status: 'False', lastTransitionTime: '2026-03-02T00:00:00Z' }, 'each has its own time')
  t.equal(conditionsOf('nonsense', [readySaying(ready)], 1, now).length, 1)
})

void t.test('statuses are written when they change, and told as events', async t => {
  const written: string[] = []
  let failing: number | undefined
  let stored: Readonly<Record<string, unknown>> = {}
  const client = {
    async patch (path: string, body: object) {
      if (failing !== undefined) throw new KubeRefusal(failing, 'PATCH', 'x')
      written.push(path)
      stored = (body as { status: Readonly<Record<string, unknown>> }).status
    },
    async create (path: string, body: object): Promise<KubeObject> {
      const { type, reason, involvedObject } = body as { type: string, reason: string, involvedObject: { uid: string } }
      written.push(`${path} ${type} ${reason} ${involvedObject.uid}`)
      return body as KubeObject
    }
  }
  let readiness = ready
  let set = true
  let inUse: Saying | undefined
  const resource = () => readClusterStaticEntry({ metadata: { name: 'vm', uid: 'u', generation: 1 }, spec: {}, status: stored })
  const statuses = function * (): Generator<ResourceStatus> { yield { resource: resource(), fields: { set }, readiness, use: inUse } }
  const failed: string[] = []
  const writer = new StatusWriter({
    client, statuses, clock: new ManualClock(), log: silentLogger, identity: 'me', metrics: { failed: cause => failed.push(cause) }
  })
  let lost = false
  const check = () => { if (lost) throw new SpiffeError('lease_lost', 'lost') }
  const tenure = { check, note: () => '', setNote: async () => {} }
  const write = async () => {
    written.length = 0
    await writer.writeAll(tenure, signal)
    return [...written]
  }
  const path = '/apis/spire.spiffe.io/v1alpha1/clusterstaticentries/vm/status'
  const events = '/api/v1/namespaces/default/events'
  t.strictSame(await write(), [path], 'one that is ready from the beginning is no event')
  t.strictSame(await write(), [], 'nothing changed')
  readiness = refused
  set = false
  t.strictSame(await write(), [path, `${events} Warning Refused u`])
  t.match(stored, { set: false, observedGeneration: 1, conditions: [{ type: 'Ready', status: 'False' }] })
  t.strictSame(await write(), [])
  readiness = ready
  failing = 500
  t.strictSame(await write(), [])
  t.strictSame(failed, ['status'])
  failing = undefined
  t.strictSame(await write(), [path, `${events} Normal Reconciled u`], 'what failed is written at the next look')
  inUse = use('False')
  t.strictSame(await write(), [path], 'that agents serve it, or not yet, is no event')
  t.match(stored, { conditions: [{ type: 'Ready', status: 'True' }, { type: 'InUse', status: 'False', observedGeneration: 1 }] })
  inUse = { ...inUse, message: '1 of 2' }
  t.strictSame(await write(), [path])
  readiness = refused
  failing = 404
  t.strictSame([await write(), failed], [[], ['status']], 'one that was deleted is no failure')
  lost = true
  await t.rejects(write(), { code: 'lease_lost' })
})
