import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { envoyBootstrap } from '../../src/mesh/envoy/bootstrap.ts'
import { findEnvoy } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { Namespace, needsNamespaces } from '../fakes/namespace.ts'
import { prepareJoin, startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'

const run = promisify(execFile)
const program = join(import.meta.dirname, '../../src/cli/main.ts')
const patienceMs = 300_000
/** As the chart has them, of agent and Envoy; with pods there is one more. */
const exactly = ['net_admin', 'sys_admin']

function missing (): string | false {
  if (needsNamespaces !== false) return needsNamespaces
  if (findEnvoy() === undefined) return 'there is no envoy; run `npm run setup`'
  for (const name of ['setpriv', 'nft', 'mount']) {
    if (spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0) return `there is no ${name} (Debian: util-linux, nftables)`
  }
  return false
}

void t.test('a pod that runs is found by its processes with SYS_PTRACE alone', { skip: missing(), timeout: 280_000 }, async t => {
  await using pair = await Namespace.openPair()
  const [first, ...enter] = pair.there.enter
  const nobody = ['setpriv', '--reuid=10001', '--regid=10001', '--clear-groups', 'sleep', '3600']
  const child = spawn(first, [...enter, ...nobody], { stdio: 'ignore' })
  const pins = await mkdtemp(join(tmpdir(), 'assay-pins-'))
  const place = join(import.meta.dirname, '../../src/mesh/pods/netns-place.ts')
  const find = async (capabilities: readonly string[]) => {
    const looking = `import('${place}').then(m => {
      try {
        m.pinPlace(m.placeOfProcess(${child.pid}), '${pins}', 'pod')
        console.log('found')
      } catch (error) { console.log(error.message) }
    })`
    const looks = confined(capabilities, [process.execPath, '-e', looking], 'pipe')
    await once(looks, 'close')
    return looks.said.trim()
  }
  try {
    await eventually('the pod runs', async () => await find([...exactly, 'sys_ptrace']) === 'found', patienceMs)
    t.match(await find(exactly), /^\/proc\/\d+\/ns\/net cannot be opened$/, 'else its own user alone can')
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
    await rm(pins, { recursive: true, force: true })
  }
})

/** Root of a container with these capabilities and no others, now or later. */
function confined (
  capabilities: readonly string[], words: readonly string[], output: 'ignore' | 'pipe' = 'ignore'
): ChildProcess & { said: string } {
  const bounds = ['-all', ...capabilities.map(name => `+${name}`)].join(',')
  const child = Object.assign(spawn('setpriv', ['--no-new-privs', `--bounding-set=${bounds}`, '--inh-caps=-all', ...words], {
    stdio: ['ignore', output, 'pipe']
  }), { said: '' })
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => { child.said += text })
  return child
}

await t.test('the mesh works with the capabilities of the chart, and with none less', { skip: missing(), timeout: 1_700_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const server = scope.use(await startServer())
  const admin = scope.use(new Administrator(server))
  const answer = 'require("node:net").createServer(s => { s.on("error", () => {}); s.end("hello") }).listen(8080)'
  const call = 'const s = require("node:net").connect(8080, "192.0.2.2"); let got = ""; s.on("data", d => { got += d });' +
    's.on("error", e => { got = e.code }); s.on("close", () => console.log(got || "closed"))'

  /** What a workload gets through its node's proxy, and what agent and Envoy say. */
  async function tryMesh (name: string, capabilities: { readonly agent: readonly string[], readonly envoy: readonly string[] }) {
    await using scope = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'assay-rights-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    const pair = scope.use(await Namespace.openPair())
    const [first, ...enter] = pair.there.enter
    const peer = spawn(first, [...enter, process.execPath, '-e', answer], { stdio: 'ignore' })
    scope.defer(() => end(peer))
    const netns = join(folder, 'netns')
    mkdirSync(netns)
    writeFileSync(join(netns, name), '')
    await run('mount', ['--bind', pair.here.path, join(netns, name)])
    scope.defer(async () => { await run('umount', ['--lazy', join(netns, name)]) })

    const token = await prepareJoin(server, join(folder, 'bundle.pem'))
    await admin.register(`spiffe://example.org/${name}`, `spiffe://example.org/spire/agent/join_token/${token}`, {
      selectors: [{ type: 'netns', value: `name:${name}` }]
    })
    const xdsSocketPath = join(folder, 'mesh/xds.sock')
    writeFileSync(join(folder, 'agent.json'), JSON.stringify({
      agent: {
        trust_domain: 'example.org', server_addresses: [server.address], socket_path: join(folder, 'public/api.sock'),
        data_dir: join(folder, 'data'), trust_bundle_path: join(folder, 'bundle.pem'), join_token: token
      },
      mesh: { socket_path: xdsSocketPath, netns_dir: netns, proxy_selectors: ['unix:uid:0'] }
    }))
    const agent = confined(capabilities.agent, [process.execPath, program, 'agent', 'run', '-config', join(folder, 'agent.json')])
    scope.defer(() => end(agent))
    writeFileSync(join(folder, 'envoy.json'), JSON.stringify(envoyBootstrap({
      xdsSocketPath, adminSocketPath: join(folder, 'envoy.sock'), nodeId: 'node'
    })))
    const envoy = confined(capabilities.envoy, [
      findEnvoy() ?? '', '-c', join(folder, 'envoy.json'), '--concurrency', '1', '--disable-hot-restart', '-l', 'warn'
    ])
    scope.defer(() => end(envoy))
    const said = () => `${agent.said.slice(-6_000)}\n${envoy.said.slice(-3_000)}`
    await eventually(said, () => agent.said.includes('agent is serving'), patienceMs)
    const rules = async () => (await pair.here.run('nft', 'list', 'tables')).includes('assay_redirect')
    // 15001 of the proxy, in the workload's namespace.
    const listens = async () => (await pair.here.run('cat', '/proc/net/tcp')).includes(':3A99 ')
    const get = async () => (await pair.here.run(process.execPath, '-e', call)).trim()
    return { said, rules, listens, get, scope: scope.move() }
  }

  async function end (child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }

  await t.test('with both', async t => {
    const mesh = await tryMesh('both', { agent: exactly, envoy: exactly })
    await using _ = mesh.scope
    await eventually(mesh.said, mesh.rules, patienceMs)
    await eventually(mesh.said, mesh.listens, patienceMs)
    await eventually(mesh.said, async () => await mesh.get() === 'hello', patienceMs)
    t.pass('a workload\'s connection went through the proxy in its namespace')
  })

  for (const [who, without, sign] of [
    ['agent', 'sys_admin', /namespace|errno 1|EPERM|not permitted/i], ['agent', 'net_admin', /redirect_(unavailable|failed)/],
    // It opens namespaces by the agent's descriptors, which the kernel grants to who has the agent's capabilities.
    ['envoy', 'sys_admin', /failed to open netns file/], ['envoy', 'net_admin', /failed to open netns file/]
  ] as const) {
    await t.test(`the ${who} without ${without}`, async t => {
      const less = exactly.filter(name => name !== without)
      const name = `${who}-${without.replace('_', '-')}`
      const mesh = await tryMesh(name, { agent: who === 'agent' ? less : exactly, envoy: who === 'envoy' ? less : exactly })
      await using _ = mesh.scope
      await eventually(mesh.said, () => sign.test(mesh.said()), patienceMs)
      t.notOk(await mesh.rules() && await mesh.listens(), 'there is no way through the proxy')
    })
  }
})
