import { createServer, type IncomingHttpHeaders } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FileSource } from '../../../src/authz/rego/file-source.ts'
import { HttpSource } from '../../../src/authz/rego/http-source.ts'
import { openRego, type Rego } from '../../../src/authz/rego/open-rego.ts'
import { codeOf } from '../../../src/spiffe/errors.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { eventually } from '../../fakes/eventually.ts'
import { fixtureBytes, fixtureOf } from './fixture.ts'

const limits = { threads: 1, timeoutMs: 60_000, memoryMb: 16, maxWaiting: 10 }
const time = new Date(0)
const revisionOf = (rego: Rego) => rego.current.value?.revisions.get('b')

/** Serves `bytes` under an ETag, or what `answer` says. */
async function serveBundles (t: Test) {
  const state = { bytes: fixtureBytes as Uint8Array, etag: '"1"', status: 200, seen: [] as IncomingHttpHeaders[], answers: [] as number[] }
  const server = createServer((request, response) => {
    state.seen.push(request.headers)
    const status = state.status === 200 && request.headers['if-none-match'] === state.etag ? 304 : state.status
    state.answers.push(status)
    response.writeHead(status, { etag: state.etag }).end(status === 200 ? state.bytes : '')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  return { state, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/bundle.tar.gz` }
}

t.test('a bundle over HTTP: fetched when its ETag changes, kept for a start without its server', async t => {
  const { state, server, url } = await serveBundles(t)
  const clock = new ManualClock()
  const persistPath = join(t.testdir(), 'kept.tar.gz')
  const problems: unknown[] = []
  const open = () => openRego({
    bundles: { b: { source: new HttpSource({ url, persistPath, clock, random: () => 0.5, bearerToken: () => 'secret', minPollMs: 10_000,
      maxPollMs: 20_000 }) } },
    limits, clock, onProblem: (_, error) => problems.push(codeOf(error) ?? error)
  })
  {
    await using rego = await open()
    t.equal(revisionOf(rego), 'fixture-1')
    t.equal(state.seen[0]?.authorization, 'Bearer secret')
    await rego.refresh()
    t.same(state.answers, [200, 304])
    const before = rego.current.value
    Object.assign(state, { bytes: await fixtureOf(2), etag: '"2"' })
    await clock.advance(14_999)
    t.equal(state.seen.length, 2, 'not before its time')
    await clock.advance(1)
    await eventually('the second one is in use', () => revisionOf(rego) === 'r2')
    t.same(await before?.evaluate('hostile/revision', {}, { time }), { result: 1 }, 'who holds the old set is answered by it')
    t.same(await rego.current.value?.evaluate('hostile/revision', {}, { time }), { result: 2 })
    Object.assign(state, { bytes: Buffer.from('damaged'), etag: '"3"' })
    await rego.refresh()
    await rego.refresh()
    t.same([problems, revisionOf(rego)], [['rego_bundle_invalid', 'rego_bundle_invalid'], 'r2'],
      'a damaged one is refused, and asked for again')
    state.status = 500
    await rego.refresh()
    t.same([problems.at(-1), revisionOf(rego)], ['rego_bundle_unavailable', 'r2'])
  }
  t.equal((await stat(persistPath)).mode & 0o777, 0o600)
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
  {
    await using rego = await open()
    t.same([problems.at(-1), revisionOf(rego)], ['rego_bundle_unavailable', 'r2'], 'the kept one')
  }
  await rm(persistPath)
  await using rego = await open()
  t.equal(rego.current.value, undefined, 'nothing, and so nobody is let in')
})

t.test('an answer that does not end', async t => {
  const server = createServer((_, response) => { response.writeHead(200).write('x') })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const clock = new ManualClock()
  const source = new HttpSource({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, clock, random: () => 0 })
  const asked = once(server, 'request')
  const polled = source.poll(new AbortController().signal)
  const rejected = t.rejects(polled, { code: 'rego_bundle_unavailable', message: /no answer within/ })
  await asked
  await clock.advance(30_000)
  await rejected
})

t.test('a bundle in a file is read again when the file changes', async t => {
  const path = join(t.testdir(), 'b.tar.gz')
  const clock = new ManualClock()
  const problems: unknown[] = []
  const source = new FileSource({ path, build: { entrypoints: [] } })
  await using rego = await openRego({ bundles: { b: { source } }, limits, clock,
    onProblem: (_, error) => problems.push(codeOf(error) ?? error) })
  t.same([problems, rego.current.value], [['rego_bundle_unavailable'], undefined])
  await writeFile(path, await fixtureOf(1))
  await clock.advance(1000)
  await eventually('the file is in use', () => revisionOf(rego) === 'r1')
  const { value } = rego.current
  await clock.advance(10_000)
  t.equal(rego.current.value, value, 'the same file is the same set')
  await writeFile(path, await fixtureOf(22))
  await rego.refresh()
  t.equal(revisionOf(rego), 'r22')
})

t.test('a folder of Rego without an opa is refused with the command to run', async t => {
  const folder = t.testdir({ 'a.rego': 'package a' })
  const source = new FileSource({ path: folder, build: { entrypoints: ['a/allow'] } })
  await t.rejects(source.poll(new AbortController().signal), {
    code: 'rego_bundle_invalid', message: `run \`opa build -t wasm -e a/allow -b ${folder} -o bundle.tar.gz\``
  })
})
