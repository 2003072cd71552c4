import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { DataApi } from '../../../src/authz/data-api/data-api.ts'
import { Decider } from '../../../src/authz/decider.ts'
import { answerHttpCheck } from '../../../src/authz/ext-authz/http-flavour.ts'
import { extAuthzMethods } from '../../../src/authz/ext-authz/ext-authz-methods.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { compileRbac } from '../../../src/authz/rbac/compile-rbac.ts'
import { parseSpiffeId, type SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { decodeMessage } from '../../../src/wire/decode-message.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckRequest, CheckResponse } from '../../../src/wire/generated/envoy-authorization.ts'
import { noEnvoy } from '../../fakes/envoy.ts'
import { judge } from '../policy/oracle.ts'
import { policiesOf } from '../rbac/policies-of.ts'
import { RbacLab } from '../rbac/rbac-lab.ts'
import { openTls, RawHttp } from '../rbac/tls-client.ts'
import { type ConformanceSet, conformanceSets, type Row } from './cases.ts'

/**
 * Each engine answers the same table: rules walked, the index, ext_authz's messages and its HTTP flavour, the Data API, and filters
 * in a real Envoy.
 */
const db = parseSpiffeId('spiffe://own.test/db')
const now = new Date('2026-06-15T12:00:00Z')
const sets = conformanceSets.map(one => ({ one, set: setOf(one) }))

for (const { one, set } of sets) {
  t.test(`without Envoy: ${one.name}`, async t => {
    const engine = new PolicyEngine(set)
    const decider = new Decider({ engine: () => engine, providers: () => undefined, monotonicMs: () => 0 })
    const clock = { now: () => now, monotonicMs: () => 0 }
    const dataApi = new DataApi({ decider, clock, policies: () => [], problems: () => [] })
    const [check] = extAuthzMethods(decider, clock)
    for (const row of one.rows) {
      const [request, label] = [requestOf(row), labelOf(row)]
      const expected = `${row.allowed ? 'allow' : 'deny'} ${row.by}`
      t.equal(judge(set, request), expected, `the rules, walked: ${label}`)
      const { allowed, rule, reason } = engine.decide(request)
      t.equal(`${allowed ? 'allow' : 'deny'} ${rule ?? reason}`, expected, `the index: ${label}`)
      const call = { signal: new AbortController().signal }
      const bytes = await check?.handle(encodeMessage(CheckRequest, messageOf(row)), { kind: 'plain' } as never, {}, call)
      const { status } = decodeMessage(CheckResponse, bytes ?? new Uint8Array())
      t.equal((status?.code ?? 0) === 0, row.allowed, `ext_authz: ${label}`)
      // Nobody tells the HTTP flavour which name TLS asked for.
      if (row.sni === undefined) {
        t.equal((await answerHttpCheck(decider, httpOf(row), now)).status === 200, row.allowed, `ext_authz over HTTP: ${label}`)
      }
      const { body } = await dataApi.answer('POST', '/v1/data/assay/authz', Buffer.from(JSON.stringify({ input: inputOf(request) })))
      t.match(body, { result: { allow: row.allowed } }, `the Data API: ${label}`)
    }
  })
}

const skip = noEnvoy()

t.test('in a real Envoy', { skip, timeout: 120_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const echo = createServer(socket => { socket.on('error', () => undefined).pipe(socket) }).listen(0, '127.0.0.1')
  await once(echo, 'listening')
  scope.defer(() => { echo.close() })
  // Both forms of filters, one after the other.
  const compiled = [50, 0].flatMap(mostInList => sets.map(({ one, set }) => ({
    one, http: compileRbac(set, db, { kind: 'http', mostInList, now }), network: compileRbac(set, db, { kind: 'network', mostInList, now })
  })))
  const free = { a: 0, b: 0, c: 0 }
  const lab = scope.use(await RbacLab.start({ http: free, tcp: free }, (echo.address() as AddressInfo).port,
    compiled.map(({ http, network }) => ({ http: http.filters, network: network.filters }))))
  for (const [index, { one, http }] of compiled.entries()) {
    await t.test(one.name, async t => {
      t.equal(http.external.length > 0, one.external === true, 'whether Envoy can be told is as the table says')
      for (const row of one.rows) {
        const answer = await askEnvoy(t, lab, index, row)
        if (one.external === true) t.equal(answer.status, 403, `refused until somebody is asked: ${labelOf(row)}`)
        else t.equal(answer.status === 307, row.allowed, `${labelOf(row)}: ${answer.status} ${answer.body}`)
      }
    })
  }
})

function setOf ({ rules, more = [], defaultAction = 'deny' }: ConformanceSet): PolicySet {
  return policiesOf(rules, { more, defaultAction })
}

function callerOf ({ from }: Row): SpiffeId | undefined {
  return from === undefined ? undefined : parseSpiffeId(from.startsWith('/') ? `spiffe://own.test${from}` : from)
}

function requestOf (row: Row): AuthzRequest {
  const { method = 'GET', path = '/', host = 'db', headers = {}, sni = '', address = '127.0.0.1' } = row
  return {
    source: { id: callerOf(row), address }, destination: { id: db, address: '127.0.0.1', port: 8_443 },
    http: { method, path, host, headers: new Map(Object.entries(headers)) }, tls: { version: 'TLSv1.3', sni }, time: now
  }
}

function messageOf (row: Row): Parameters<typeof encodeMessage<CheckRequest, object>>[1] {
  const { method = 'GET', path = '/', host = 'db', headers = {}, sni = '', address = '127.0.0.1' } = row
  const socket = (text: string, portValue: number) => ({ address: { socketAddress: { address: text, portValue } } })
  return { attributes: {
    source: { principal: callerOf(row) ?? '', ...socket(address, 40_000) },
    destination: { principal: db, ...socket('127.0.0.1', 8_443) },
    request: { http: { method, path, host, headers } }, tlsSession: { sni }
  } }
}

/** As Envoy passes a request on to an authorizer that it asks over HTTP. */
function httpOf (row: Row): IncomingMessage {
  const { method = 'GET', path = '/', host = 'db', headers = {}, address = '127.0.0.1' } = row
  const id = callerOf(row)
  return { method, url: path, headers: {
    ...headers, host, 'x-assay-destination': db, 'x-assay-source-address': address, 'x-assay-destination-port': '8443',
    ...id === undefined ? {} : { 'x-assay-source': id }
  } } as unknown as IncomingMessage
}

function inputOf ({ source, destination, http, tls }: AuthzRequest): object {
  return { source, destination, http: { ...http, headers: Object.fromEntries(http?.headers ?? []) }, tls }
}

function labelOf (row: Row): string {
  const { from = 'nobody', method = 'GET', path = '/', host = '', headers = {}, sni = '', address = '' } = row
  return [from, method, path, host, ...Object.entries(headers).flat(), sni, address].filter(text => text !== '').join(' ')
}

async function askEnvoy (t: Test, lab: RbacLab, index: number, row: Row): Promise<{ status: number, body: string }> {
  const { method = 'GET', path = '/', host = 'db', headers = {}, sni, address = '127.0.0.1' } = row
  const id = callerOf(row)
  const svid = id === undefined ? undefined : await lab.svid(id)
  using client = new RawHttp(await openTls(lab.port('http/a'), { svid, address, serverName: sni }))
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  return await client.ask(method, path, [`host: ${host}`, `x-case: ${index}`, 'content-length: 0', ...lines])
}
