import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { parse } from 'yaml'
import { placeEnvoyConfig } from '../../src/cli/demo/place-envoy-config.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { findEnvoy, get, noEnvoy, until } from '../fakes/envoy.ts'
import { folderOfConfigs, Mesh, portOf, startWorkload } from './mesh.ts'

const run = promisify(execFile)
const envoy = findEnvoy()
const skip = noEnvoy()
const files = (await readdir(folderOfConfigs)).filter(name => name.endsWith('.yaml'))

await t.test('each file of envoy-configs/ as it stands', { skip, timeout: 60_000 }, async t => {
  const readme = await readFile(join(folderOfConfigs, 'README.md'), 'utf8')
  const guide = await readFile(join(folderOfConfigs, '../docs/envoy.md'), 'utf8')
  t.ok(files.length >= 13)
  // What the two for JWT-SVIDs read must be there, wherever.
  const folder = await mkdtemp(join(tmpdir(), 'configs-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'bundle.json'), '{"keys": []}')
  await writeFile(join(folder, 'token.json'), '{"resources": []}')
  for (const file of files) {
    const yaml = await readFile(join(folderOfConfigs, file), 'utf8')
    await writeFile(join(folder, file), yaml.replaceAll('/tmp/assay-jwt', folder))
    const { stdout, stderr } = await run(envoy as string, ['--mode', 'validate', '-c', join(folder, file), '--disable-hot-restart'])
    t.match(stdout + stderr, /OK/, `${file} is valid for this Envoy`)
    t.notMatch(stderr, /deprecated/i, `${file} uses nothing that is going away`)
    t.ok(readme.includes(`\`${file}\``), `${file} is explained`)
    // Istio writes the configuration of its proxies, and does not know the header; docs/istio.md has it.
    if (file === 'istio.yaml') continue
    t.ok(guide.includes(`(../envoy-configs/${file})`), `${file} is found by its task`)
    t.match(yaml, 'initial_metadata: [{key: workload.spiffe.io, value: "true"}]', `AMB-13 ${file} sends the header`)
  }
})

await t.test('the generic files run against a real agent', { skip, timeout: 120_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const mesh = scope.use(await Mesh.open())
  const workload = scope.use(await startWorkload())
  await mesh.startAgent()
  await mesh.register('spiffe://example.org/any', { ttlSeconds: 600 })
  await until('the agent to have it', async () => await mesh.svidOf('spiffe://example.org/any') !== undefined)
  await using bare = openUnixChannel(mesh.agentSocket)
  const secrets = bare.client(secretDiscoveryService)
  const refused = { status: 'INVALID_ARGUMENT', code: 'security_header_missing' }
  await t.rejects(secrets.fetchSecrets({ resourceNames: ['ROOTCA'] }), refused, 'AMB-13 WLE-04 this agent demands the header')
  for (const [file, api] of [['sds-delta.yaml', 'DELTA_GRPC'], ['sds-sotw.yaml', 'GRPC']] as const) {
    // The peer of these files is they themselves, at a port that is known once it listens.
    const nowhere = { host: '127.0.0.1', port: 1 }
    const inward = await mesh.startEnvoy(file, api, { workload: { host: '127.0.0.1', port: workload.port }, peer: nowhere })
    const peer = { host: '127.0.0.1', port: await portOf(inward, 'in') }
    const outward = await mesh.startEnvoy(file, api, { workload: nowhere, peer })
    await outward.ready()
    const { status, body } = await get(await portOf(outward, 'out'))
    t.equal(status, 200, `${file}: an agent that demands the header serves it`)
    t.match(body, /URI=spiffe:\/\/example\.org\/any/, `${file}: mTLS in both directions`)
  }
})

await t.test('the demo only moves addresses', async t => {
  const yaml = await readFile(join(folderOfConfigs, 'server-node.yaml'), 'utf8')
  const original = parse(yaml) as unknown
  const there = { host: '127.0.0.1', port: 15443 }
  const backend = { host: '127.0.0.1', port: 8080 }
  const same = { admin: 'x', agent: '/tmp/assay-agent/public/api.sock', listeners: { mtls: there }, clusters: { backend } }
  const placed = JSON.parse(placeEnvoyConfig(yaml, same)) as object
  t.strictSame({ ...placed, admin: 0 }, { ...original as object, admin: 0 }, 'the same addresses give the same configuration')
  t.throws(() => placeEnvoyConfig(yaml, { ...same, listeners: {} }), { message: 'there is no place for listener mtls' })
  t.throws(() => placeEnvoyConfig(yaml, { ...same, clusters: {} }), { message: 'there is no place for cluster backend' })
})
