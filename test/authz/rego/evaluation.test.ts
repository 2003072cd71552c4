import t from 'tap'
import type { EvaluationLimits } from '../../../src/authz/rego/evaluation-pool.ts'
import { readBundle } from '../../../src/authz/rego/rego-bundle.ts'
import { RegoSet } from '../../../src/authz/rego/rego-set.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import { changedFixture, fixtureBytes } from './fixture.ts'
import { readTarGz } from '../../../src/authz/rego/tar-archive.ts'

const limits: EvaluationLimits = { threads: 1, timeoutMs: 60_000, memoryMb: 16, maxWaiting: 100 }
const at = { time: new Date('2026-11-26T05:30:00.123Z') }

async function open (bytes: Uint8Array = fixtureBytes, changed: Partial<EvaluationLimits> = {}): Promise<RegoSet> {
  const bundle = await readBundle(bytes, undefined)
  return await RegoSet.open(new Map([['b', bundle]]), { ...limits, ...changed }, systemClock, new AbortController().signal)
}

t.test('decisions in a thread', async t => {
  await using set = await open()
  t.same(set.revisions.get('b'), 'fixture-1')
  t.same(await set.evaluate('hostile/allow', { user: 'ann' }, at), { result: true })
  t.same(await set.evaluate('hostile/allow', { user: 'bob' }, at), { result: false })
  t.same(await set.evaluate('hostile/allow', undefined, at), { result: false }, 'without an input')
  t.same(await set.evaluate('hostile/allow', false, at), { result: false }, 'an input that is false is one')
  t.same(await set.evaluate('hostile/pattern', {}, at), { result: undefined }, 'an undefined decision')
  t.same(await set.evaluate('hostile/rank', {}, at), { result: 1795671000123000000 }, 'the time is the caller\'s')
  await t.rejects(set.evaluate('hostile/none', {}, at), { code: 'rego_entrypoint_unknown' })
  await t.rejects(set.evaluate('hostile/allow', { user: 'x'.repeat(1024 * 1024) }, at),
    { code: 'rego_evaluation_failed', message: /longer/ })
  const deep = JSON.parse('['.repeat(500) + ']'.repeat(500)) as unknown
  await t.rejects(set.evaluate('hostile/allow', deep, at), { code: 'rego_evaluation_failed', message: /nested/ })
  const many = await Promise.all(Array.from({ length: 50 },
    (_, index) => set.evaluate('hostile/allow', { user: index % 2 === 0 ? 'ann' : 'bob' }, at)))
  t.same(many.map(({ result }) => result), many.map((_, index) => index % 2 === 0), 'each of a batch gets its own answer')
})

t.test('a loop is ended, and what waits behind it is decided', async t => {
  for (const [path, input] of [['hostile/loop', { never: [] }], ['hostile/pattern', { text: `${'a'.repeat(60)}!` }]] as const) {
    await using set = await open(fixtureBytes, { timeoutMs: 300, memoryMb: 1024 })
    // All of them before the thread has looked at one: the loop is in the middle.
    const before = set.evaluate('hostile/allow', { user: 'ann' }, at)
    const loop = set.evaluate(path, input, at)
    const behind = [set.evaluate('hostile/allow', { user: 'ann' }, at), set.evaluate('hostile/allow', { user: 'bob' }, at)]
    await t.rejects(loop, { code: 'rego_timeout' }, path)
    t.same(await before, { result: true })
    t.same(await Promise.all(behind), [{ result: true }, { result: false }])
  }
})

t.test('memory has an end', async t => {
  await using set = await open()
  await t.rejects(set.evaluate('hostile/memory', {}, at), { code: 'rego_evaluation_failed' })
  t.same(await set.evaluate('hostile/allow', { user: 'ann' }, at), { result: true }, 'the next decision is made')
  await t.rejects(open(await changedFixture({ 'data.json': JSON.stringify({ hostile_data: { users: Array(800_000).fill('x') } }) })), {
    code: 'rego_bundle_invalid'
  }, 'data that do not fit')
})

t.test('more waits than may', async t => {
  await using set = await open(fixtureBytes, { timeoutMs: 300, maxWaiting: 2, memoryMb: 1024 })
  const loop = set.evaluate('hostile/loop', { never: [] }, at)
  const waiting = [1, 2].map(() => set.evaluate('hostile/allow', { user: 'ann' }, at))
  await t.rejects(set.evaluate('hostile/allow', { user: 'ann' }, at), { code: 'server_overloaded' })
  await t.rejects(loop, { code: 'rego_timeout' })
  t.same(await Promise.all(waiting), [{ result: true }, { result: true }])
})

t.test('what nobody waits for any more takes no place in the queue', async t => {
  await using set = await open(fixtureBytes, { timeoutMs: 300, maxWaiting: 1, memoryMb: 1024 })
  const loop = set.evaluate('hostile/loop', { never: [] }, at)
  const left = new AbortController()
  const waiting = set.evaluate('hostile/allow', { user: 'ann' }, { ...at, signal: left.signal })
  await t.rejects(set.evaluate('hostile/allow', {}, at), { code: 'server_overloaded' })
  left.abort(new SpiffeError('deadline_exceeded', 'too late'))
  await t.rejects(waiting, { code: 'deadline_exceeded' }, 'at once, while the loop goes on')
  const next = set.evaluate('hostile/allow', { user: 'ann' }, at)
  await t.rejects(set.evaluate('hostile/allow', {}, { ...at, signal: left.signal }), { code: 'server_overloaded' })
  await t.rejects(loop, { code: 'rego_timeout' })
  t.same(await next, { result: true })
  await t.rejects(set.evaluate('hostile/allow', {}, { ...at, signal: left.signal }), { code: 'deadline_exceeded' }, 'nor does it begin')
})

t.test('modules that cannot be used', async t => {
  const wasm = (await readTarGz(fixtureBytes)).get('policy.wasm') as Buffer
  await t.rejects(open(await changedFixture({ 'policy.wasm': wasm.subarray(0, wasm.length - 100) })),
    { code: 'rego_bundle_invalid', message: /damaged/ })
  await t.rejects(open(await changedFixture({ 'policy.wasm': 'no wasm' })), { code: 'rego_bundle_invalid', message: /damaged/ })
  await t.rejects(open(await changedFixture({ 'policy.wasm': Buffer.from('0061736d01000000', 'hex') })), {
    code: 'rego_bundle_invalid', message: /does not say its ABI/
  })
  // (module (import "env" "system" (func)))
  const foreign = Buffer.from('0061736d01000000010401600000020e0103656e760673797374656d0000', 'hex')
  await t.rejects(open(await changedFixture({ 'policy.wasm': foreign })), { code: 'rego_bundle_invalid', message: /env\.system/ })
  // (module (global (export "opa_wasm_abi_version") i32 (i32.const 2)) and the same for opa_wasm_abi_minor_version)
  const name = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)])
  const exported = Buffer.concat([
    Buffer.from([2]), name('opa_wasm_abi_version'), Buffer.from([3, 0]), name('opa_wasm_abi_minor_version'), Buffer.from([3, 0])
  ])
  const other = Buffer.concat([
    Buffer.from('0061736d01000000', 'hex'), Buffer.from([6, 6, 1, 0x7f, 0, 0x41, 2, 0x0b, 7, exported.length]), exported
  ])
  await t.rejects(open(await changedFixture({ 'policy.wasm': other })), { code: 'rego_bundle_invalid', message: /its ABI is 2\.2/ })
  await t.rejects(open(await changedFixture({
    '.manifest': JSON.stringify({ roots: ['hostile', 'hostile_data'], wasm: [{ entrypoint: 'hostile/else', module: '/policy.wasm' }] })
  })), { code: 'rego_bundle_invalid', message: /does not answer hostile\/else/ })
})
