import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { chownSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { imageUser, makeImageRoot } from '../../scripts/image-root.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'

const run = promisify(execFile)
const project = join(import.meta.dirname, '../..')
const patienceMs = 300_000
/** What an orchestrator mounts, writable; all else of the root is not. */
const mounts = ['run/assay', 'var/lib/assay', 'etc/assay', 'tmp']

function missing (): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'a root of its own for a process takes root on Linux'
  for (const program of ['unshare', 'setpriv', 'mount', 'ldd', 'nft', 'nsenter']) {
    const isHere = spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
    if (!isHere) return `there is no ${program} (Debian: util-linux, libc-bin, nftables)`
  }
  const { status, stderr } = spawnSync('unshare', ['--mount', 'true'])
  return status === 0 ? false : `namespaces cannot be made here: ${String(stderr).trim()}`
}

/**
 * Mounts as an orchestrator does (processes are the host's, as an agent has it), then the program as the image's user, without a
 * capability and without a way to one. The runner of tests gives NODE_OPTIONS to whatever is started.
 */
const enter = `set -e
unset NODE_OPTIONS
root=$1; data=$2; shift 2
mount --bind "$root" "$root"
for name in ${mounts.join(' ')}; do mount --bind "$data/$name" "$root/$name"; done
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \\
  unshare --root="$root" --wd=/ --setgid ${imageUser} --setuid ${imageUser} "$@"`

class Container {
  readonly words: readonly string[]
  readonly folder: string

  /** @param data folder with a folder for each of `mounts` */
  constructor (root: string, data: string) {
    this.folder = data
    for (const name of mounts) {
      mkdirSync(join(data, name), { recursive: true })
      chownSync(join(data, name), imageUser, imageUser)
    }
    // One process from here to the program: a signal for it reaches the program.
    this.words = ['--mount', '--propagation', 'private', 'sh', '-c', enter, 'sh', root, data]
  }

  start (...words: string[]): ChildProcess & { said: string } {
    const child = Object.assign(spawn('unshare', [...this.words, ...words], { stdio: ['ignore', 'pipe', 'pipe'], env: {} }), { said: '' })
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { child.said += text })
    return child
  }

  async call (...words: string[]): Promise<string> {
    const { stdout } = await run('unshare', [...this.words, ...words], { env: {}, maxBuffer: 1 << 24 })
    return stdout
  }
}

await t.test('what the images contain is enough', { skip: missing() }, async t => {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'assay-image-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  // As the build does it, from a copy: others may be running dist/.
  const copy = join(folder, 'src')
  for (const name of ['src', 'scripts', 'package.json', 'package-lock.json', 'LICENSE', 'tsconfig.json', 'tsconfig.build.json']) {
    cpSync(join(project, name), join(copy, name), { recursive: true })
  }
  await run('ln', ['-s', join(project, 'node_modules'), join(copy, 'node_modules')])
  // The test runner's NODE_OPTIONS would reach into the compiler.
  await run('env', ['-u', 'NODE_OPTIONS', process.execPath, 'scripts/build.mjs'], { cwd: copy })
  const root = join(folder, 'root')
  // The image `assay-node`; `assay` is the same without the two programs, which nothing but the mesh calls.
  const programs = ['nft', 'nsenter']
  await makeImageRoot({ root, project: copy, node: process.execPath, programs })

  await t.test('and not more', async t => {
    const { stdout: size } = await run('du', ['-sm', root])
    t.comment(`the root has ${size.split('\t')[0]} MB`)
    const unwanted = ['bin/sh', 'usr/bin/sh', 'bin/bash', 'usr/bin/env', 'opt/assay/src']
    for (const path of unwanted) t.notOk(existsSync(join(root, path)), `no ${path}`)
    for (const name of ['typescript', 'tap']) t.notOk(existsSync(join(root, 'opt/assay/node_modules', name)), `no ${name}`)
    t.strictSame([readdirSync(join(root, 'usr/bin')), readdirSync(join(root, 'usr/sbin'))], [['node'], programs])
  })

  const container = new Container(root, join(folder, 'server'))
  await t.test('the program knows its version, and can write nowhere else', async t => {
    const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { version: string }
    t.match(await container.call('/usr/local/bin/assay', '--version'), version)
    for (const name of programs) t.match(await container.call(`/usr/sbin/${name}`, '--version'), name === 'nft' ? 'nftables' : 'util-linux')
    const facts = await container.call('/usr/bin/node', '-e', `
      const fs = require('node:fs'), results = {}
      for (const path of ['/x', '/opt/assay/x', '/etc/x', '/usr/bin/x', '/tmp/x', '/var/lib/assay/x']) {
        try { fs.writeFileSync(path, ''); results[path] = 'written' } catch (error) { results[path] = error.code }
      }
      const status = fs.readFileSync('/proc/self/status', 'utf8')
      console.log(JSON.stringify({ results, uid: process.getuid(), gid: process.getgid(), effective: /CapEff:\\s*(\\w+)/.exec(status)[1],
        permitted: /CapPrm:\\s*(\\w+)/.exec(status)[1], noNewPrivileges: /NoNewPrivs:\\s*(\\d)/.exec(status)[1] }))`)
    t.strictSame(JSON.parse(facts), {
      results: {
        '/x': 'EROFS', '/opt/assay/x': 'EROFS', '/etc/x': 'EROFS', '/usr/bin/x': 'EROFS', '/tmp/x': 'written', '/var/lib/assay/x': 'written'
      },
      uid: imageUser, gid: imageUser, effective: '0'.repeat(16), permitted: '0'.repeat(16), noNewPrivileges: '1'
    })
  })

  await t.test('server and agent run in it, and a workload there gets its SVID', async t => {
    const port = await freePort()
    const write = (name: string, text: object) => writeFileSync(join(container.folder, 'etc/assay', name), JSON.stringify(text))
    write('server.yaml', {
      server: {
        trust_domain: 'example.org', bind_address: '127.0.0.1', bind_port: port, socket_path: '/run/assay/api.sock',
        data_dir: '/var/lib/assay/s'
      }
    })
    const assay = (...words: string[]) => container.call('/usr/local/bin/assay', ...words)
    const socket = ['-socketPath', '/run/assay/api.sock']
    const server = container.start('/usr/local/bin/assay', 'server', 'run', '-config', '/etc/assay/server.yaml')
    scope.defer(() => end(server))
    await eventually(() => `the server runs: ${server.said}`, () => ended(server) || server.said.includes('server is running'), patienceMs)
    t.match(await assay('server', 'healthcheck', ...socket), 'Server is healthy.')
    writeFileSync(join(container.folder, 'etc/assay/bundle.pem'), await assay('bundle', 'show', ...socket))
    const token = /Token: (\S+)/.exec(await assay('token', 'generate', '-spiffeID', 'spiffe://example.org/node', ...socket))?.[1] ?? ''
    write('agent.yaml', {
      agent: {
        trust_domain: 'example.org', server_address: '127.0.0.1', server_port: port, socket_path: '/run/assay/agent/api.sock',
        data_dir: '/var/lib/assay/a', trust_bundle_path: '/etc/assay/bundle.pem', join_token: token
      }
    })
    const entry = ['-spiffeID', 'spiffe://example.org/w', '-parentID', 'spiffe://example.org/node', '-selector', `unix:uid:${imageUser}`]
    await assay('entry', 'create', ...entry, ...socket)
    const agent = container.start('/usr/local/bin/assay', 'agent', 'run', '-config', '/etc/assay/agent.yaml')
    scope.defer(() => end(agent))
    await eventually(() => `the agent serves: ${agent.said}`, () => ended(agent) || agent.said.includes('agent is serving'), patienceMs)
    const agentSocket = ['-socketPath', '/run/assay/agent/api.sock']
    // It serves from the moment it has joined; what it serves comes from the server then.
    const says = async (what: string, ...words: string[]) => {
      let said = ''
      await eventually(() => `${what}: ${said}\n${agent.said}`, async () => {
        said = await assay(...words, ...agentSocket).catch((error: Error) => error.message)
        return said.includes(what)
      }, patienceMs)
      t.match(said, what)
    }
    await says('Agent is healthy.', 'agent', 'healthcheck')
    // Attested by the process that the kernel names.
    await says('spiffe://example.org/w', 'api', 'fetch', 'x509')
  })

  function ended (child: ChildProcess): boolean { return child.exitCode !== null || child.signalCode !== null }
  async function end (child: ChildProcess): Promise<void> {
    if (ended(child)) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  rmSync(copy, { recursive: true, force: true })
})
