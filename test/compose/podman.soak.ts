import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { readFileSync, readlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { findPostgres } from '../../compose/local/postgres-pair.ts'
import { openEnclosure } from '../../compose/podman/enclosure.ts'
import { PodmanTopology } from '../../compose/podman/topology.ts'
import { podmanMissing } from '../../compose/podman/why-not.ts'
import { findEnvoy } from '../../src/cli/demo/find-envoy.ts'
import { eventually } from '../fakes/eventually.ts'

const timeoutMs = 120_000
/** Whoever wants containers on this machine says so: they come with mounts and networks of their own. */
const wanted = process.env['ASSAY_PODMAN'] === '1'
const skip = wanted ? await podmanMissing() : 'containers are started where ASSAY_PODMAN=1 says so'
const folder = await mkdtemp(join(tmpdir(), 'podman-'))

await t.test('compose.yaml in containers', { skip, timeout: 1_200_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const enter = await openEnclosure(folder, scope)
  const { file: envoy } = await findEnvoy(process.env['PATH'])
  const postgres = await findPostgres(process.env['PATH'])
  const topology = scope.use(new PodmanTopology({ folder, enter, envoy, postgres, progress: text => t.comment(text) }))
  await topology.start()

  await t.test('a request of web crosses both Envoys, one of batch is refused', async t => {
    const letIn = /"status":200,.*URI=spiffe:\/\/example.org\/web/
    await eventually('web to be let in', async () => letIn.test(await topology.logs('web')), timeoutMs)
    await eventually('batch to be refused', async () => (await topology.logs('batch')).includes('"status":403'), timeoutMs)
    t.notMatch(await topology.logs('batch'), '"status":200')
  })

  await t.test('a workload in a container is given its SVIDs, another user in the same container none', async t => {
    const fetch = ['assay', 'api', 'fetch', 'x509', '-socketPath', '/tmp/assay-agent/public/api.sock']
    const fetched = await topology.exec('node-1-envoy', fetch)
    for (const id of ['web', 'batch']) t.match(fetched, `spiffe://example.org/${id}`)
    t.notMatch(fetched, 'spiffe://example.org/backend', 'which is of the other node')
    t.match(await topology.exec('node-2-envoy', fetch), 'spiffe://example.org/backend')
    await t.rejects(topology.exec('node-1-envoy', fetch, ['--user', '10009']), /no_identity_issued|PERMISSION_DENIED/)
  })

  await t.test('the database\'s replica has what the servers wrote', async t => {
    const sql = 'select count(*), pg_is_in_recovery() from entries'
    const query = ['gosu', 'postgres', 'psql', '-h', '/tmp', '-U', 'assay', '-At', '-c', sql]
    const ask = async (name: string) => (await topology.exec(name, query)).trim()
    // Those of the three workloads, and one per node for its alias.
    t.equal(await ask('postgres-primary'), '5|f')
    await eventually('the replica to have them', async () => await ask('postgres-standby') === '5|t', timeoutMs)
  })

  await t.test('two of three servers are killed: requests go on, and a change at the third reaches an agent', async t => {
    const answers = async (name: string) => [...(await topology.logs(name)).matchAll(/"status":(\d+)/g)].map(([, status]) => status)
    const before = (await answers('web')).length
    for (const name of ['server-1', 'server-2']) await topology.kill(name)
    await topology.exec('server-3', [
      'assay', 'entry', 'create', '-spiffeID', 'spiffe://example.org/late', '-parentID', 'spiffe://example.org/node-1', '-selector', 'unix:uid:10010'
    ])
    const fetch = ['assay', 'api', 'fetch', 'x509', '-socketPath', '/tmp/assay-agent/public/api.sock']
    const late = () => topology.exec('node-1-envoy', fetch, ['--user', '10010']).catch(() => '')
    await eventually('the new workload to be served', async () => (await late()).includes('spiffe://example.org/late'), timeoutMs)
    await eventually('web to have called on', async () => (await answers('web')).length >= before + 5, timeoutMs)
    t.strictSame(new Set((await answers('web')).slice(before)), new Set(['200']))
  })
})

await t.test('nothing is left', { skip }, async t => {
  t.strictSame((await readdir(tmpdir())).filter(name => folder.endsWith(name)), [], 'no file')
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n').filter(line => line.includes(folder))
  t.strictSame(mounts, [], 'no mount')
  const processes = (await readdir('/proc')).filter(name => /^\d+$/.test(name)).filter(pid => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder) || readlinkSync(`/proc/${pid}/cwd`).startsWith(folder)
    } catch {
      return false
    }
  })
  t.strictSame(processes, [], 'no process')
})
