import { hostname } from 'node:os'
import { request } from 'node:https'
import t from 'tap'
import { contextOptions } from '../../src/rpc/tls-identity.ts'
import { usualTelemetry } from '../../src/rpc/telemetry/telemetry-config.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer } from '../fakes/server.ts'
import { openReceiver } from '../fakes/telemetry.ts'
import { createTestAuthority } from '../fakes/authority.ts'

void t.test('a server sends what it did, the last of it when it ends, and shows itself to whom it may', async t => {
  await using statsd = await openReceiver()
  const [port, { log, lines }] = [await freePort(), capturedLog()]
  const ids = new Set([parseSpiffeId('spiffe://example.org/prometheus')])
  const stranger = await (await createTestAuthority('example.org')).issue('/prometheus')
  {
    await using server = await startTestServer({
      log,
      config: {
        prometheus: { host: '127.0.0.1', port, tls: { shown: 'svid', readers: { ids } } },
        telemetry: { ...usualTelemetry, statsd: [statsd.to], metricPrefix: 'acme' }
      }
    })
    await statsd.has(new RegExp(`^acme\\.started\\.\\w+\\.example_org\\.${hostname()}:1\\.000000\\|g$`))
    const reading = () => new Promise<string>(resolve => {
      const options = { host: '127.0.0.1', port, path: '/metrics', agent: false, rejectUnauthorized: false, ...contextOptions(stranger) }
      const failed = (error: NodeJS.ErrnoException) => resolve(String(error.code))
      request(options, answer => resolve(String(answer.statusCode))).on('error', failed).end()
    })
    await eventually('it listens', async () => await reading() !== 'ECONNREFUSED')
    t.match(await reading(), /^E/, 'one of another\'s authority is not let in')
    t.match(lines.find(({ msg }) => /metrics are not shown/.test(String(msg))), { code: 'x509_chain_untrusted' })
    await server.admin.client(bundleService).countBundles({})
  }
  await statsd.has(`acme.rpc.bundle.v1.bundle.count_bundles.OK.${hostname()}:1.000000|c`)
})
