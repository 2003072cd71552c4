import { mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { serverProbes } from '../../src/server/health-probes.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { createTestCa, writeCaFiles } from '../fakes/ca-files.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer, testPlugins } from '../fakes/server.ts'

const well = { server: {}, 'server.ca': {}, 'server.ca.rotator': {}, 'catalog.datastore': {} }

await t.test('health checks have SPIRE\'s subsystems (spire-surface §6.4); who cannot rotate is not ready', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-health-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [port, clock] = [await freePort(), new ManualClock(new Date())]
  const root = await createTestCa()
  const files = await writeCaFiles(folder, [root], [root])
  await using server = await startTestServer({ clock, config: {
    caTtlSeconds: 7_200,
    plugins: testPlugins({ UpstreamAuthority: { disk: { plugin_data: files } } }),
    healthChecks: { host: '127.0.0.1', port, livePath: '/live', readyPath: '/ready' }
  } })
  const ask = async (path: string): Promise<[number, unknown]> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`)
    return [response.status, await response.json()]
  }
  await eventually('it listens', () => ask('/live').then(() => true, () => false))
  t.same(await ask('/ready'), [200, well])
  t.same(await ask('/live'), [200, well])

  await rename(files.key_file_path, `${files.key_file_path}.gone`)
  // Half of the CA's life is over: from then on the next one is due.
  await clock.skip(3_610_000)
  const untilReady = async (status: number) => await eventually(`it answers ${status}`, async () => {
    await clock.skip(10_000)
    return (await ask('/ready'))[0] === status
  }, 60_000)
  await untilReady(500)
  t.match(await ask('/ready'), [500, {
    ...well, 'server.ca.rotator': { rotation_err: /^authorities could not be rotated \d\d+ times in a row$/ }
  }])
  t.equal((await ask('/live'))[0], 200, 'starting anew would not help')
  t.ok((await server.admin.client(bundleService).getBundle({})).x509Authorities.length > 0, 'it serves on')
  await rename(`${files.key_file_path}.gone`, files.key_file_path)
  await untilReady(200)
  t.same(await ask('/ready'), [200, well])
})

await t.test('each subsystem says what is wrong with it', async t => {
  const broken = (message: string) => async () => { throw new Error(message) }
  const probes = serverProbes({
    trustDomain: 'example.org', socketPath: '/nowhere/api.sock', clock: new ManualClock(),
    authorities: { failedRotations: 11, ca: { trySigning: broken('no key') } }, store: { ping: broken('no database') }
  } as unknown as Parameters<typeof serverProbes>[0])
  const failure = async (name: keyof typeof probes) => {
    try {
      await probes[name]()
      return 'none'
    } catch (error) {
      return (error as Error).message
    }
  }
  t.match(await failure('server'), /nowhere|ENOENT|connect/i)
  t.equal(await failure('server.ca'), 'no key')
  t.equal(await failure('server.ca.rotator'), 'authorities could not be rotated 11 times in a row')
  t.equal(await failure('catalog.datastore'), 'no database')
})
