import { once } from 'node:events'
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
