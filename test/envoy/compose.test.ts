import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { commandTree } from '../../src/cli/command-tree.ts'
import { isGroup } from '../../src/cli/command.ts'
import { findCommand } from '../../src/cli/find-command.ts'
import { parseFlags } from '../../src/cli/parse-flags.ts'
import { findEnvoy, noEnvoy } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { freePort } from '../fakes/free-port.ts'

interface Service {
  readonly command?: readonly string[]
  readonly image: string
  readonly build?: { readonly context: string, readonly dockerfile: string }
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly depends_on?: readonly string[] | Readonly<Record<string, { readonly condition: string }>>
  readonly network_mode?: string
  readonly pid?: string
  readonly networks?: Readonly<Record<string, unknown>>
  readonly volumes?: readonly string[]
}
interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>
  readonly networks: object
  readonly volumes: object
}

const root = join(import.meta.dirname, '../..')
const file = parse(await readFile(join(root, 'compose/compose.yaml'), 'utf8'), { merge: true }) as ComposeFile
const services = Object.entries(file.services)

await t.test('compose.yaml refers to what is there', async t => {
  t.ok(services.length >= 14)
  for (const [name, service] of services) {
    const { depends_on: after = [], network_mode: network = '', pid = '' } = service
    const shared = [network, pid].filter(mode => mode !== '').map(mode => /^service:(.+)$/.exec(mode)?.[1])
    for (const other of [...Array.isArray(after) ? after as string[] : Object.keys(after), ...shared]) {
      t.ok(Object.hasOwn(file.services, other ?? ''), `${name}: service ${other}`)
    }
    for (const [other, { condition }] of Array.isArray(after) ? [] : Object.entries(after as Record<string, { condition: string }>)) {
      if (condition === 'service_healthy') t.ok(file.services[other]?.healthcheck, `${name}: ${other} has a health check`)
    }
    for (const network of Object.keys(service.networks ?? {})) t.ok(Object.hasOwn(file.networks, network), `${name}: network ${network}`)
    for (const volume of service.volumes ?? []) {
      const [source = ''] = volume.split(':')
      t.ok(source.startsWith('./') ? existsSync(join(root, 'compose', source)) : Object.hasOwn(file.volumes, source), `${name}: ${volume}`)
    }
    if (service.build === undefined) t.match(service.image, /^postgres:\d+-/, `${name}: an image of others, by version`)
    else t.ok(existsSync(join(root, service.build.dockerfile)), `${name}: image`)
    for (const words of [service.command ?? [], service.healthcheck?.test.slice(1) ?? []]) {
      if (words[0] === 'assay') await t.resolves(parseCommandLine(words.slice(1)), `${name}: ${words.join(' ')}`)
      for (const path of words.filter(word => word.startsWith('/opt/assay/'))) {
        t.ok(existsSync(join(root, path.slice('/opt/assay/'.length))), `${name}: ${path}`)
      }
    }
  }
  for (const script of globSync('compose/*.sh', { cwd: root })) {
    t.equal(spawnSync('sh', ['-n', join(root, script)]).status, 0, `${script} is well-formed`)
  }
  const image = await readFile(join(root, 'compose/Containerfile'), 'utf8')
  for (const [, sources = ''] of image.matchAll(/^COPY (.+) \S+$/gm)) {
    for (const source of sources.split(' ')) t.ok(existsSync(join(root, source)), `Containerfile: ${source}`)
  }
})

const tools = [['docker', 'compose'], ['podman-compose'], ['podman', 'compose']]
const tool = tools.find(([program = '', ...words]) => spawnSync(program, [...words, 'version'], { stdio: 'ignore' }).status === 0)
const toolMissing = tool === undefined && 'neither docker compose nor podman-compose is here: no container tool has read compose.yaml'

await t.test('a container tool reads compose.yaml as it is meant', { skip: toolMissing }, async t => {
  const [program = '', ...words] = tool ?? []
  const asked = [...words, '-f', join(root, 'compose/compose.yaml'), 'config']
  const { status, stdout, stderr } = spawnSync(program, asked, { encoding: 'utf8' })
  t.equal(status, 0, stderr)
  const read = parse(stdout, { merge: true }) as ComposeFile
  t.same(Object.keys(read.services).toSorted(), Object.keys(file.services).toSorted())
})

async function parseCommandLine (words: readonly string[]): Promise<void> {
  const { node, rest } = findCommand(commandTree, words)
  if (isGroup(node)) throw new Error(`no command: ${words.join(' ')}`)
  parseFlags(await node.load(), rest)
}

const envoy = findEnvoy()
const skip = postgresMissing() || noEnvoy()

await t.test('the scripts of compose/, with plain processes for containers', { skip, timeout: 300_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'compose-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const postgres = scope.use(await startPostgres())
  const shared = join(folder, 'shared')
  const ports: Record<string, number> = {}
  for (const port of ['15000', '15001', '15002', '15010', '15443', '8080', '8081', '8082', '8083']) ports[port] = await freePort()
  await copyWithPorts(folder, ports)
  const environment = {
    ...process.env,
    PATH: [join(root, 'bin'), dirname(envoy as string), dirname(process.execPath), process.env['PATH']].join(delimiter),
    ASSAY_SERVER_SOCKET: join(folder, 'server-1.sock'),
    DATABASE_URL: postgres.url,
    SECRETS: join(folder, 'secrets'),
    SHARED: shared,
    ENVOY_UID: String(process.getuid?.())
  }
  const run = (words: readonly string[]) => {
    const [program = '', ...rest] = words
    // A group of its own: the scripts have children.
    const child = spawn(program, rest, { env: environment, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
    const started = { child, output: '', exit: once(child, 'exit') as Promise<[number | null]> }
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', text => { started.output += text })
    scope.defer(async () => {
      try {
        process.kill(-(child.pid as number), 'SIGKILL')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
      await started.exit
    })
    return started
  }
  const commandOf = (name: string, changes: Readonly<Record<string, string>>) =>
    (file.services[name]?.command ?? []).map(word => changes[word] ?? word.replace('/opt/assay/compose', join(folder, 'compose'))
      .replace('/opt/assay', root).replace('/shared', shared))

  for (const round of ['first', 'repeated']) {
    const secrets = run(commandOf('secrets', {}))
    t.equal((await secrets.exit)[0], 0, `${round} secrets: ${secrets.output}`)
  }
  const keyFile = join(folder, 'secrets', 'key-encryption-key')
  t.match(await readFile(keyFile, 'utf8'), /^[0-9a-f]{64}$/)
  for (const n of [1, 2, 3]) {
    const own = ['-dataDir', join(folder, `server-${n}`), '-socketPath', join(folder, `server-${n}.sock`)]
    const server = run([...commandOf(`server-${n}`, {}), ...own, '-bindAddress', '127.0.0.1', '-serverPort', String(ports[8080 + n])])
    await eventually(() => `server ${n} to run; ${server.output}`, () => server.output.includes('server is running'), 120_000)
  }
  for (const round of ['first', 'repeated']) {
    const setup = run(commandOf('setup', {}))
    t.equal((await setup.exit)[0], 0, `${round} set-up: ${setup.output}`)
  }
  for (const node of ['node-1', 'node-2']) {
    const own = ['-dataDir', join(folder, node), '-socketPath', join(folder, `${node}.sock`)]
    const agent = run([...commandOf(`${node}-agent`, {}), ...own, '-trustBundle', join(shared, 'bundle.pem')])
    await eventually(() => `${node} to serve; ${agent.output}`, () => agent.output.includes('agent is serving'), 120_000)
  }
  run(commandOf('backend', { 8080: String(ports['8080']) }))
  const envoys = [run(commandOf('node-1-envoy', { '172.30.0.32': '127.0.0.1' })), run(commandOf('node-2-envoy', {}))]
  const said = () => envoys.map(({ output }) => output.slice(-2_000)).join('\n')
  const web = run(commandOf('web', { 15001: String(ports['15001']) }))
  const batch = run(commandOf('batch', { 15002: String(ports['15002']) }))
  const last = ({ output }: { readonly output: string }) => `${output.slice(-500)} ${said()}`
  await eventually(() => `web to be let in: ${last(web)}`, () => /"status":200,.*URI=spiffe:\/\/example.org\/web/.test(web.output), 60_000)
  await eventually(() => `batch to be refused: ${last(batch)}`, () => batch.output.includes('"status":403'), 60_000)
  t.notMatch(batch.output, '"status":200')
})

/** `compose/` and `envoy-configs/` as they are but for ports that may be taken here, and the agents' sockets. */
async function copyWithPorts (folder: string, ports: Readonly<Record<string, number>>): Promise<void> {
  await cp(join(root, 'compose'), join(folder, 'compose'), { recursive: true })
  await symlink(join(root, 'src'), join(folder, 'src'))
  const agent = await readFile(join(root, 'compose/agent.yaml'), 'utf8')
  const here = (_: string, n: string) => `127.0.0.1:${ports[8080 + Number(n)]}`
  await writeFile(join(folder, 'compose/agent.yaml'), agent.replaceAll(/172\.30\.0\.2(\d):8081/g, here))
  await mkdir(join(folder, 'shared'))
  await mkdir(join(folder, 'envoy-configs'))
  for (const [name, node] of [
    ['compose/run-envoy.sh', ''], ['envoy-configs/client-node.yaml', 'node-1'], ['envoy-configs/server-node.yaml', 'node-2']
  ] as const) {
    const text = await readFile(join(root, name), 'utf8')
    const moved = text.replaceAll(/port_value: (\d+)/g, (_, port: string) => `port_value: ${ports[port]}`)
    await writeFile(join(folder, name), moved.replaceAll('/tmp/assay-agent/public/api.sock', join(folder, `${node}.sock`)))
  }
}
