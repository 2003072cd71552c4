import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { requestOfInput } from '../../../src/authz/data-api/input-request.ts'
import { Decider } from '../../../src/authz/decider.ts'
import { answerHttpCheck } from '../../../src/authz/ext-authz/http-flavour.ts'
import { readCheck } from '../../../src/authz/ext-authz/read-check.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckRequest } from '../../../src/wire/generated/envoy-authorization.ts'
import { policiesOf } from '../rbac/policies-of.ts'

const source = parseSpiffeId('spiffe://own.test/web')
const destination = parseSpiffeId('spiffe://own.test/db')
const time = new Date('2026-06-01T12:00:00Z')
const outside = policiesOf([{ name: 'outside', action: 'allow', from: [{ notAddresses: ['10.0.0.0/8'] }] }])
const inside = policiesOf([{ name: 'inside', action: 'deny', from: [{ addresses: ['10.0.0.0/8'] }] }], { defaultAction: 'allow' })
const first = policiesOf([{ name: 'first', action: 'allow', from: [{ notRemoteAddresses: ['10.0.0.0/8'] }] }])

t.test('an address that nobody tells lets nobody in, and spares nobody', t => {
  for (const [name, set] of Object.entries({ outside, inside, first })) {
    const allowed = (address: string | undefined) =>
      new PolicyEngine(set).decide({ source: { id: source, address }, destination: { id: destination }, time }).allowed
    t.strictSame([allowed('10.1.2.3'), allowed('192.0.2.1'), allowed(undefined)], [false, true, false], name)
  }
  t.end()
})

t.test('whoever asks without telling it is answered so', async t => {
  for (const [name, set] of Object.entries({ outside, inside })) {
    const engine = new PolicyEngine(set)
    const decider = new Decider({ engine: () => engine, providers: () => undefined, monotonicMs: () => 0 })
    const overHttp = async (address: string | undefined) => (await answerHttpCheck(decider, {
      method: 'GET', url: '/', headers: {
        host: 'db', 'x-assay-source': source, 'x-assay-destination': destination,
        ...address === undefined ? {} : { 'x-assay-source-address': address }
      }
    } as unknown as IncomingMessage, time)).status
    const two = '192.0.2.1, 10.1.2.3'
    t.strictSame([await overHttp('10.1.2.3'), await overHttp('192.0.2.1'), await overHttp(undefined), await overHttp(two)],
      [403, 200, 403, 403], `${name}: ext_authz over HTTP; what is no address is none`)
    const overData = (address: string | undefined) =>
      engine.decide(requestOfInput({ source: { id: source, address }, destination: { id: destination } }, time)).allowed
    t.strictSame([overData('10.1.2.3'), overData('192.0.2.1'), overData(undefined)], [false, true, false], `${name}: the Data API`)
    const piped = encodeMessage(CheckRequest, { attributes: {
      source: { principal: source, address: { pipe: { path: '/run/x' } } }, destination: { principal: destination }
    } })
    t.notOk(engine.decide(readCheck(piped, time).request).allowed, `${name}: ext_authz of a connection over a Unix socket`)
  }
})
