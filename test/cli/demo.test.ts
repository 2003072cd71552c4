import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { noEnvoy } from '../fakes/envoy.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { eventually } from '../fakes/eventually.ts'

// Six demos, one after another: each starts a dozen programs.
t.setTimeout(900_000)

const skip = noEnvoy()
const skipPods = skip === false ? noNamespaces() : skip
const program = join(import.meta.dirname, '../../src/cli/main.ts')

/** `assay demo` with a folder for temporary files of its own, by which all it starts can be told. */
class Demo implements AsyncDisposable {
  readonly folder: string
  readonly #child: ChildProcess
  readonly #closed: Promise<unknown>
  output = ''

  constructor (folder: string, flags: readonly string[] = [], { path = process.env['PATH'], uid }: { path?: string, uid?: number } = {}) {
    this.folder = folder
    this.#child = spawn(process.execPath, [program, 'demo', ...flags], {
      env: { ...process.env, TMPDIR: folder, PATH: path }, stdio: ['ignore', 'pipe', 'pipe'], ...uid === undefined ? {} : { uid }
    })
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.setEncoding('utf8').on('data', text => { this.output += text })
    this.#closed = once(this.#child, 'close')
  }

  async says (text: string): Promise<void> {
    await eventually(`"${text}" in\n${this.output}`, () => {
      if (this.#child.exitCode !== null && !this.output.includes(text)) throw new Error(`the demo ended:\n${this.output}`)
      return this.output.includes(text)
    }, 180_000)
  }

  async exit (signal?: NodeJS.Signals): Promise<number | null> {
    if (signal !== undefined) this.#child.kill(signal)
    await this.#closed
    return this.#child.exitCode
  }

  /** PIDs of all it started, itself included. */
  async processes (): Promise<string[]> {
    const all = (await readdir('/proc')).filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)
    const environments = await Promise.all(all.map(pid => readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '')))
    return all.filter((_, index) => environments[index]?.split('\0').includes(`TMPDIR=${this.folder}`))
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.exit('SIGKILL')
  }
}

async function openFolder (scope: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'demo-test-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A PATH on which the programs that write a firewall's rules are of no use. */
async function pathWithoutRedirects (scope: AsyncDisposableStack): Promise<string> {
  const folder = await openFolder(scope)
  for (const name of ['nft', 'iptables']) await writeFile(join(folder, name), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  return `${folder}${delimiter}${process.env['PATH']}`
}

await t.test('demo --once with the rights shows pods behind one Envoy per node', { skip: skipPods, timeout: 300_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const demo = scope.use(new Demo(await openFolder(scope), ['--once']))
  t.equal(await demo.exit(), 0, 'exit code')
  const [, first = '', changes = '', second = '', rotation = ''] =
    /^([^]*? TLS handshakes[^\n]*)([^]*?)(\n {2}plain HTTP[^]*? TLS handshakes[^\n]*)([^]*)$/.exec(demo.output) ?? []
  const row = (text: string, from: string, to: string, rest: string, fact: string) =>
    t.match(text, new RegExp(`^  ${from} -> ${to} +${rest}$`, 'm'), fact)
  const id = (name: string) => `spiffe://example\\.org/${name}`
  row(first, 'web', 'api', `allowed +api +${id('web')}`, 'on the list')
  row(first, 'batch', 'api', `refused +- +${id('batch')}`, 'not on it; the peer knows who it was')
  row(first, 'db', 'api', `refused +- +${id('db')}`, 'the same on one node')
  row(first, 'batch', 'db', `allowed +db +${id('batch')}`, 'each service has its own list')
  row(first, 'api', 'db', `allowed +db +${id('api')}`, 'four identities')
  t.match(first, /[1-9]\d* TLS handshakes between proxies so far: TLSv1\.3 with X25519MLKEM768, all of them/, 'TLS of each')

  const took = (what: string) => t.match(changes, new RegExp(`${what}: \\d+ ms after the change was asked for`), what)
  took('batch is refused by db')
  t.match(changes, new RegExp(`batch -> db: refused; the peer saw ${id('batch')}`), 'a line for what changed')
  took('pod batch calls api as web, and pod web is refused as batch')
  t.match(changes, /api-2 -> db: refused; it came to no peer/, 'a workload of which no entry knows is nobody')
  took('api-2 answers for api, and calls db as api')
  row(second, 'batch', 'api', `allowed +api, api-2 +${id('web')}`, 'the entry says who is who')
  row(second, 'web', 'api', `refused +- +${id('batch')}`, 'for both')
  row(second, 'api-2', 'db', `allowed +db +${id('api')}`, 'the added one')

  t.match(rotation, /prepare [^]* activate [^]* taint [^]* revoke [^]* what had to go is in no bundle any more/, 'a new authority')
  const requests = Number(/(\d+) requests meanwhile, 0 failed/.exec(rotation)?.[1])
  t.ok(requests > 50, `0 of ${requests} requests fail meanwhile`)
  t.strictSame(await readdir(demo.folder), [], 'no file or socket is left')
  t.strictSame(await demo.processes(), [], 'no process, hence no namespace is left')
})

await t.test('without the rights the demo says what is missing', { skip: skipPods, timeout: 180_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const nobody = 65_534
  const folder = await openFolder(scope)
  await chown(folder, nobody, nobody)
  const demo = scope.use(new Demo(folder, ['--once'], { uid: nobody }))
  await demo.says('it takes root to make network namespaces')
  t.match(demo.output, /not shown: pods behind one Envoy per node/)
  await demo.exit('SIGINT')
  t.strictSame([await readdir(folder), await demo.processes()], [[], []], 'and leaves nothing')
})

const withoutPods = [
  ['namespaces, where nothing can redirect', [], skipPods, /what pods send cannot be redirected to a proxy/],
  ['loopback addresses', ['--no-namespaces'], skip, /namespaces were not wanted/]
] as const
for (const [place, flags, skip, missing] of withoutPods) {
  await t.test(`demo --once on ${place}`, { skip, timeout: 240_000 }, async t => {
    await using scope = new AsyncDisposableStack()
    const path = await pathWithoutRedirects(scope)
    const demo = scope.use(new Demo(await openFolder(scope), ['--once', ...flags], { path }))
    t.equal(await demo.exit(), 0, 'exit code')
    const says = (pattern: RegExp, fact: string) => t.match(demo.output, pattern, fact)
    says(missing, 'why there are no pods')
    says(/server's Envoy saw +spiffe:\/\/example\.org\/web +spiffe:\/\/example\.org\/batch/, 'the clients\' IDs, by the server\'s side')
    says(/client's Envoy saw +spiffe:\/\/example\.org\/backend +spiffe:\/\/example\.org\/backend/, 'the server\'s ID, by the client\'s')
    says(/TLS version +TLSv1\.3 +TLSv1\.3/, 'TLS version')
    says(/key exchange +X25519MLKEM768 +X25519MLKEM768/, 'key exchange')
    says(/cipher +TLS_AES_\w+ +TLS_AES_\w+/, 'cipher')
    says(/decision +allowed by RBAC \(200\) +refused by RBAC \(403\)/, 'the decisions')
    says(/workload saw +URI=spiffe:\/\/example\.org\/web +nothing/, 'the workload knows its caller without TLS')
    const serials = [...demo.output.matchAll(/ serial +([\da-f]+…[\da-f]+) +([\da-f]+…[\da-f]+)/g)].flatMap(match => match.slice(1))
    // The server may have renewed its own between the two calls.
    const ofServer = new Set(serials.slice(2)).size
    t.same([serials.length, new Set(serials).size], [4, 2 + ofServer], 'serials: two clients\', and others, the server\'s')
    for (const id of ['web', 'backend']) {
      const [, before, after] = new RegExp(`example.org/${id}: serial (\\S+) -> (\\S+)`).exec(demo.output) ?? []
      t.ok(serials.includes(before ?? ''), `${id} rotates from the serial that was shown`)
      t.not(after, before, `${id} rotates to another one`)
    }
    const requests = Number(/(\d+) requests meanwhile, 0 failed/.exec(demo.output)?.[1])
    t.ok(requests > 50, `0 of ${requests} requests fail during the rotation`)
    t.strictSame(await readdir(demo.folder), [], 'no file or socket is left')
    t.strictSame(await demo.processes(), [], 'no process, hence no namespace is left')
  })
}

await t.test('however the demo ends, nothing stays', { skip, timeout: 400_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await openFolder(scope)
  const killed = scope.use(new Demo(folder))
  await killed.says('everything stays up until Ctrl-C')
  t.ok((await killed.processes()).length >= 9, 'the demo, its server, agents, Envoys and workloads run; as root namespaces too')
  if (skipPods === false) {
    const [, socket = ''] = /assay service list -socketPath (\S+)/.exec(killed.output) ?? []
    await promisify(execFile)(process.execPath, [
      program, 'service', 'update', '-name', 'db', '-address', '10.99.0.2', '-port', '80:8080/http', '-socketPath', socket,
      '-spiffeID', 'spiffe://example.org/db', '-caller', 'spiffe://example.org/batch'
    ])
    await killed.says('web -> db: allowed, answered by db; the peer saw spiffe://example.org/batch')
    t.pass('while it stays up, what is changed by hand is seen')
  }
  await killed.exit('SIGKILL')
  await eventually('all children to end with it', async () => (await killed.processes()).length === 0)
  t.equal((await readdir(folder)).length, 1, 'a killed demo cannot remove its folder')

  const stopped = scope.use(new Demo(folder, ['--no-namespaces']))
  await stopped.says('everything stays up until Ctrl-C')
  t.equal((await readdir(folder)).length, 1, 'the next one removes it')
  t.equal(await stopped.exit('SIGINT'), 0, 'Ctrl-C is its ordinary end')
  t.strictSame([await readdir(folder), await stopped.processes()], [[], []], 'and leaves nothing')

  const interrupted = scope.use(new Demo(folder))
  await interrupted.says('starting an agent on each node')
  t.equal(await interrupted.exit('SIGINT'), 130, 'Ctrl-C on the way')
  t.strictSame([await readdir(folder), await interrupted.processes()], [[], []], 'leaves nothing either')
})

for (const [place, flags] of [['with pods where there can be', []], ['without', ['--no-namespaces']]] as const) {
  await t.test(`a step that fails is named, with the place of the logs; ${place}`, { skip, timeout: 180_000 }, async t => {
    await using scope = new AsyncDisposableStack()
    // No Unix socket can have a path that long.
    const folder = join(await openFolder(scope), 'x'.repeat(100))
    await mkdir(folder)
    const demo = scope.use(new Demo(folder, ['--once', ...flags]))
    t.equal(await demo.exit(), 1)
    t.match(demo.output, /^failed: starting the server[^:]*: server ended \(exit code \d\)/m, 'the step')
    const logs = /^ +logs: (\S+)$/m.exec(demo.output)?.[1] ?? ''
    t.match(demo.output, /^ {2}Error: .*sock/m, 'what it said last')
    t.match(await readFile(join(logs, 'server.log'), 'utf8'), /sock/, 'the log tells the same')
    t.strictSame(await demo.processes(), [], 'no process is left')
  })
}
