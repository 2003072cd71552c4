import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { connect } from 'node:tls'
import t from 'tap'
import { serveHttp } from '../../../src/authz/data-api/http-listener.ts'
import { encodePem } from '../../../src/x509/pem.ts'
import { createTestAuthority } from '../../fakes/authority.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { until } from '../../fakes/envoy.ts'

t.test('a connection lasts no longer than the SVID that it began with', async t => {
  const authority = await createTestAuthority('a.test')
  const [identity, client] = [await authority.issue('spiffe://a.test/authz'), await authority.issue('spiffe://a.test/client')]
  const clock = new ManualClock(new Date())
  const stop = new AbortController()
  let where = ''
  const tls = { identity: () => identity, bundleOf: () => authority.bundle, refreshers: new Set<() => void>() }
  const serving = serveHttp({ kind: 'tcp', host: '127.0.0.1', port: 0 }, async () => ({ status: 200, body: {} }), {
    log: capturedLog().log, clock, tls, ready: at => { where = at }
  }, stop.signal)
  await Promise.race([until('the listener', () => where !== ''), serving])
  t.equal(tls.refreshers.size, 1)
  const socket = connect({
    host: '127.0.0.1', port: Number(new URL(where).port), rejectUnauthorized: false,
    cert: client.chain.map(der => encodePem('CERTIFICATE', der)).join(''), key: encodePem('PRIVATE KEY', client.privateKey)
  })
  await once(socket, 'secureConnect')
  const ask = async () => {
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    return String((await once(socket, 'data'))[0]).slice(0, 15)
  }
  t.equal(await ask(), 'HTTP/1.1 200 OK')
  await clock.advance(3_590_000)
  t.equal(await ask(), 'HTTP/1.1 200 OK', 'while it is good')
  const closed = once(socket, 'close')
  await clock.advance(20_000)
  await closed
  stop.abort()
  await serving
  t.equal(tls.refreshers.size, 0)
})

t.test('a connection is kept for longer than Envoy keeps it; who is answered while it stops is the last on it', async t => {
  const stop = new AbortController()
  let where = ''
  const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const handle = async ({ url }: IncomingMessage) => {
    if (url === '/slow') {
      asked.resolve()
      await answer.promise
    }
    return { status: 200, body: {} }
  }
  const serving = serveHttp({ kind: 'tcp', host: '127.0.0.1', port: 0 }, handle, {
    log: capturedLog().log, clock: new ManualClock(), ready: at => { where = at }
  }, stop.signal)
  await Promise.race([until('the listener', () => where !== ''), serving])
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const ask = async (path: string) => {
    const [{ headers, statusCode }] = await once(get({ host: '127.0.0.1', port: Number(new URL(where).port), path, agent })
      .on('response', response => response.resume()), 'response') as [IncomingMessage]
    return { statusCode, connection: headers.connection, keptSeconds: Number(/^timeout=(\d+)$/.exec(String(headers['keep-alive']))?.[1]) }
  }
  const first = await ask('/')
  t.match(first, { statusCode: 200, connection: 'keep-alive' })
  t.ok(first.keptSeconds > 3_600, `${first.keptSeconds} s`)
  const last = ask('/slow')
  await asked.promise
  stop.abort()
  answer.resolve()
  t.match(await last, { statusCode: 200, connection: 'close' })
  await serving
})
