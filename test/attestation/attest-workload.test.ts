import { pino } from 'pino'
import t from 'tap'
import { attestationMetrics } from '../../src/attestation/workload/attestation-metrics.ts'
import { attestWorkload } from '../../src/attestation/workload/attest-workload.ts'
import type { PinnedProcess } from '../../src/attestation/workload/pinned-process.ts'
import type { WorkloadAttestor } from '../../src/attestation/workload/workload-attestor.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { ManualClock, settle } from '../fakes/clock.ts'

const alive: PinnedProcess = { pid: 4711, uid: 1000, gid: 1000, check () {} }
const signal = new AbortController().signal

/** Gone from the given look on, counted from 1. */
function goneAt (look: number): PinnedProcess {
  let looks = 0
  return { ...alive, check () { if (++looks >= look) throw new SpiffeError('caller_gone', 'process 4711 ended') } }
}

function finding (name: string, ...values: string[]): WorkloadAttestor {
  return { name, attest: async () => values.map(value => ({ type: name, value })) }
}

function failing (name: string, error: unknown): WorkloadAttestor {
  return { name, attest: async () => { throw error as Error } }
}

/** Does not heed its signal. */
const hanging: WorkloadAttestor = { name: 'hanging', attest: () => new Promise(() => {}) }

function attest (attestors: readonly WorkloadAttestor[], { process = alive, clock = new ManualClock(), log = silentLogger } = {}) {
  return attestWorkload(process, { attestors, clock, log }, signal)
}

void t.test('what all attestors find, normalised', async t => {
  const found = await attest([finding('unix', 'uid:1000', 'gid:5', 'uid:1000'), finding('k8s', 'ns:default')])
  t.strictSame(found.map(formatSelector), ['k8s:ns:default', 'unix:gid:5', 'unix:uid:1000'])
  t.strictSame(await attest([]), [])
})

void t.test('one attestor that fails fails the whole: never a smaller identity', async t => {
  const lines: string[] = []
  const log = pino({ level: 'trace' }, { write: line => { lines.push(line) } })
  const error = await attest([finding('unix', 'uid:1000'), failing('k8s', new Error('kubelet says no'))], { log })
    .then(() => undefined, (error: Error) => error)
  t.match(error, { code: 'workload_attestation_failed', message: /^workload attestation failed: attestor k8s:/ }, 'in SPIRE\'s words')
  t.notMatch((error as Error).message, 'kubelet', 'the caller learns which, not why')
  t.match(lines.join(''), /"attestor":"k8s".*kubelet says no/, 'the log says why')
  t.match(lines.join(''), /"pid":4711/)
  const refusing = failing('unix', new SpiffeError('workload_attestation_failed', 'too long'))
  await t.rejects(attest([refusing]), { message: /attestor unix:/ })
})

void t.test('an attestor speaks for its own type, in selectors that can be stored', async t => {
  const strange: WorkloadAttestor = { name: 'unix', attest: async () => [{ type: 'k8s', value: 'ns:kube-system' }] }
  await t.rejects(attest([strange]), { code: 'workload_attestation_failed' })
  for (const value of ['', 'a\0b', '\ud800']) await t.rejects(attest([finding('unix', value)]), { code: 'workload_attestation_failed' })
})

void t.test('WLE-12 the process is checked before and after its facts are read', async t => {
  let asked = 0
  const counting: WorkloadAttestor = { name: 'unix', attest: async () => { asked++; return [{ type: 'unix', value: 'uid:0' }] } }
  await t.rejects(attest([counting], { process: goneAt(1) }), { code: 'caller_gone' })
  t.equal(asked, 0, 'a caller that is gone is not attested')
  await t.rejects(attest([counting], { process: goneAt(2) }), { code: 'caller_gone' }, 'nor one that executed something else meanwhile')
  t.equal(asked, 1)
  await t.rejects(attest([failing('unix', new Error('ENOENT'))], { process: goneAt(2) }), { code: 'caller_gone' },
    'of a process that ended nothing can be read: that is the reason then')
  const noticing = failing('unix', new SpiffeError('caller_gone', 'ended'))
  await t.rejects(attest([noticing]), { code: 'caller_gone' }, 'an attestor may notice first')
})

void t.test('an attestor that hangs ends at the deadline', async t => {
  const clock = new ManualClock()
  const outcome = attest([finding('unix', 'uid:1'), hanging], { clock }).then(() => 'ok', (error: unknown) => error)
  await clock.advance(9_999)
  t.equal(await Promise.race([outcome, settle().then(() => 'pending')]), 'pending')
  await clock.advance(1)
  t.match(await outcome, { code: 'workload_attestation_failed', message: /attestor hanging: no answer within 10 s/ })
  t.equal(clock.sleeping, 0)
  await attest([finding('unix', 'uid:1')], { clock })
  await settle()
  t.equal(clock.sleeping, 0, 'a timely answer leaves no timer behind')
})

void t.test('a sibling is told to stop when one has failed', async t => {
  let stopped = false
  const patient: WorkloadAttestor = {
    name: 'patient',
    attest: (_, signal) => new Promise((_, reject) => {
      signal.addEventListener('abort', () => { stopped = true; reject(signal.reason as Error) }, { once: true })
    })
  }
  const lines: string[] = []
  const log = pino({}, { write: line => { lines.push(line) } })
  await t.rejects(attest([patient, failing('unix', new Error('x'))], { log }), { message: /attestor unix:/ })
  await settle()
  t.ok(stopped)
  t.equal(lines.length, 1, 'and is not blamed')
})

void t.test('a caller that goes away is no failed attestor', async t => {
  const stop = new AbortController()
  const deps = { attestors: [hanging], clock: new ManualClock(), log: silentLogger }
  const attesting = attestWorkload(alive, deps, stop.signal)
  stop.abort(new Error('stream cancelled'))
  await t.rejects(attesting, { message: 'stream cancelled' })
  await t.rejects(attestWorkload(alive, deps, stop.signal), { message: 'stream cancelled' })
})

void t.test('metrics', async t => {
  const metrics = createMetrics({ prefix: 'test' })
  const deps = { clock: new ManualClock(), log: silentLogger, metrics: attestationMetrics(metrics) }
  await attestWorkload(alive, { ...deps, attestors: [finding('unix', 'uid:1', 'gid:1', 'user:a')] }, signal)
  await attestWorkload(alive, { ...deps, attestors: [failing('k8s', new Error('x'))] }, signal).catch(() => {})
  const text = await metrics.expose()
  for (const line of [
    'test_workload_attestor_seconds_count{attestor="unix",outcome="ok"} 1',
    'test_workload_attestor_seconds_count{attestor="k8s",outcome="failed"} 1',
    'test_workload_attestation_seconds_count{outcome="ok"} 1',
    'test_workload_attestation_seconds_count{outcome="failed"} 1',
    'test_workload_discovered_selectors_sum 3'
  ]) t.ok(text.includes(`${line}\n`), line)
})
