import t from 'tap'
import { secretDiscoveryService, type DeltaDiscoveryRequestInit } from '../../src/wire/generated/envoy-sds.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { startTestServer } from '../fakes/server.ts'
import { freePort } from '../fakes/free-port.ts'

/** The value of one sample. */
async function sample (port: number, name: string): Promise<number | undefined> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const line = text.split('\n').find(line => line.startsWith(`${name} `))
  return line === undefined ? undefined : Number(line.slice(name.length + 1))
}

const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'

await t.test('an agent counts what it serves, and a refusal by Envoy shows', async t => {
  await using server = await startTestServer()
  const port = await freePort()
  const health = await freePort()
  await using agent = await startTestAgent(server, {
    config: {
      prometheus: { host: '127.0.0.1', port },
      healthChecks: { host: '127.0.0.1', port: health, livePath: '/live', readyPath: '/ready' }
    }
  })
  const { promise: answered, resolve: answer } = Promise.withResolvers<string>()
  const { promise: over, resolve: end } = Promise.withResolvers<void>()
  const requests = (async function * (): AsyncGenerator<DeltaDiscoveryRequestInit> {
    yield { node: { id: 'envoy-1' }, typeUrl: secretType, resourceNamesSubscribe: ['ROOTCA'] }
    yield { typeUrl: secretType, responseNonce: await answered, errorDetail: { code: 13, message: 'not today' } }
    await over
  })()
  const stream = agent.workload.client(secretDiscoveryService).deltaSecrets(requests)[Symbol.asyncIterator]()
  const { value } = await stream.next()
  t.equal(await sample(port, 'assay_agent_sds_streams{kind="delta"}'), 1)
  answer(value.nonce)
  while (await sample(port, 'assay_agent_sds_refused_total{kind="delta"}') !== 1) await new Promise(resolve => setImmediate(resolve))
  t.pass('the NACK is counted')
  t.ok(Number(await sample(port, 'assay_agent_syncs_total')) > 0)
  t.equal((await fetch(`http://127.0.0.1:${port}/elsewhere`)).status, 404)
  t.equal((await fetch(`http://127.0.0.1:${health}/live`)).status, 200)
  t.same(await (await fetch(`http://127.0.0.1:${health}/ready`)).json(), { agent: {} }, 'as SPIRE\'s agent says it')
  t.equal((await fetch(`http://127.0.0.1:${health}/ready`, { method: 'POST' })).status, 405)
  end()
  await stream.return?.()
})
