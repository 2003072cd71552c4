import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { serveDiagnostics } from '../../src/rpc/serve-diagnostics.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'

const deps = { metrics: createMetrics({ prefix: 'assay_test' }), probes: {}, log: silentLogger }
const paths = { livePath: '/live', readyPath: '/ready' }

void t.test('an address that cannot be used is explained', async t => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const address = { host: '127.0.0.1', port: (taken.address() as AddressInfo).port }
  const where = `127.0.0.1:${address.port}`
  const { signal } = new AbortController()
  await t.rejects(serveDiagnostics({ prometheus: address, healthChecks: undefined }, deps, signal), {
    code: 'address_unusable', message: `cannot serve metrics on ${where}: listen EADDRINUSE: address already in use ${where}`
  })
  await t.rejects(serveDiagnostics({ prometheus: undefined, healthChecks: { ...address, ...paths } }, deps, signal), {
    code: 'address_unusable', message: `cannot serve health checks on ${where}: listen EADDRINUSE: address already in use ${where}`
  })
  const unknown = { host: 'no-such-host.invalid', port: 0 }
  await t.rejects(serveDiagnostics({ prometheus: unknown, healthChecks: undefined }, deps, signal), { code: 'address_unusable' })
})

void t.test('nothing asked for is nothing served, and an end is no failure', async t => {
  await serveDiagnostics({ prometheus: undefined, healthChecks: undefined }, deps, new AbortController().signal)
  const stop = new AbortController()
  const address = { host: '127.0.0.1', port: 0 }
  const serving = serveDiagnostics({ prometheus: address, healthChecks: { ...address, ...paths } }, deps, stop.signal)
  stop.abort(new Error('the test is over'))
  await t.resolves(serving)
})
