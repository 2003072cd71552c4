import { execFile } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { installProgram, type Program, runningProgram } from '../../src/cni/installed-program.ts'
import { keepPlugin, type KeptPlugin, removePlugin } from '../../src/cni/keep-plugin.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'

const run = promisify(execFile)
const patienceMs = 60_000
const network = { cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'bridge' }] }

/** The folders of a node, and a program whose Node is a shell's script. */
class PluginNode {
  readonly folder: string
  readonly program: Program
  readonly plugin: KeptPlugin
  wanted = true

  constructor (folder: string) {
    this.folder = folder
    const [binFolder, configFolder, programFolder] = [join(folder, 'bin'), join(folder, 'net.d'), join(folder, 'lib/assay')]
    for (const path of [binFolder, configFolder, join(folder, 'image/dist/cli'), join(folder, 'image/node_modules/left')]) {
      mkdirSync(path, { recursive: true })
    }
    this.program = { root: join(folder, 'image'), node: join(folder, 'node'), libraries: [] }
    this.build('1')
    this.plugin = {
      binFolder, configFolder, programFolder, network: undefined,
      entry: { socketPath: '/run/assay/mesh/xds.sock', onFailure: 'fail-closed', exemptNamespaces: ['kube-system'] }
    }
  }

  static async open (t: Test): Promise<PluginNode> {
    const folder = await mkdtemp(join(tmpdir(), 'assay-plugin-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    return new PluginNode(folder)
  }

  /** Another build of the program. */
  build (words: string): void {
    writeFileSync(this.program.node, `#!/bin/sh\necho "${words}: $2 $(cat "$1")"\n`)
    chmodSync(this.program.node, 0o755)
    writeFileSync(join(this.program.root, 'package.json'), '{}')
    writeFileSync(join(this.program.root, 'dist/cli/main.js'), `main ${words}`)
    writeFileSync(join(this.program.root, 'node_modules/left/index.js'), '')
  }

  write (name: string, content: object): void { writeFileSync(join(this.plugin.configFolder, name), JSON.stringify(content)) }
  types (name: string): readonly string[] {
    const { plugins } = JSON.parse(readFileSync(join(this.plugin.configFolder, name), 'utf8')) as { plugins: Array<{ type: string }> }
    return plugins.map(({ type }) => type)
  }

  async call (): Promise<string> { return (await run(join(this.plugin.binFolder, 'assay-cni'))).stdout.trim() }
  get programs (): readonly string[] { return readdirSync(this.plugin.programFolder) }

  keep () {
    const clock = new ManualClock()
    const { log, lines } = capturedLog()
    const stop = new AbortController()
    const ended = keepPlugin(this.plugin, { program: this.program, isWanted: async () => this.wanted, clock, log }, stop.signal)
    const becomes = async (what: string, isSo: () => boolean) => {
      await eventually(what, async () => {
        await clock.advance(1_000)
        return isSo()
      }, patienceMs)
    }
    return { lines, becomes, end: async () => { stop.abort(); await ended } }
  }
}

void t.test('the plugin in place, and out again', async t => {
  const node = await PluginNode.open(t)
  const before = { ...network, plugins: [{ type: 'bridge' }] }
  node.write('10-pods.conflist', before)
  const kept = node.keep()
  await kept.becomes('it is the last of the network', () => node.types('10-pods.conflist').length === 2)
  t.strictSame(node.types('10-pods.conflist'), ['bridge', 'assay-cni'])
  t.equal(await node.call(), '1: cni main 1', 'its name among the plugins is the program, with the word that makes it a plugin')

  node.write('10-pods.conflist', before)
  await kept.becomes('the network was written anew, and it is there again', () => node.types('10-pods.conflist').length === 2)
  node.write('05-other.conflist', { ...network, name: 'other' })
  await kept.becomes('another network comes first', () => node.types('05-other.conflist').length === 2)
  await kept.end()
  t.strictSame(node.types('10-pods.conflist'), ['bridge', 'assay-cni'], 'an upgrade leaves it: no pod starts in the clear meanwhile')

  node.wanted = false
  await node.keep().end()
  for (const name of ['10-pods', '05-other']) t.strictSame(node.types(`${name}.conflist`), ['bridge'], 'uninstalled, it leaves nothing')
  t.strictSame([readdirSync(node.plugin.binFolder), node.programs], [[], []])
  await removePlugin(node.plugin, silentLogger)
  t.pass('to remove it twice is no mistake')
})

void t.test('a node without a network, and one whose network cannot be joined', async t => {
  const node = await PluginNode.open(t)
  const kept = node.keep()
  await kept.becomes('it says so', () => kept.lines.some(({ reason }) => /there is no network in/.test(String(reason))))
  node.write('10-old.conf', { cniVersion: '1.0.0', name: 'old', type: 'bridge' })
  await kept.becomes('and of this too', () => kept.lines.some(({ reason }) => /10-old\.conf: .* is a single plugin/.test(String(reason))))
  rmSync(join(node.plugin.configFolder, '10-old.conf'))
  node.write('10-pods.conflist', network)
  await kept.becomes('then it joins', () => node.types('10-pods.conflist').length === 2)
  await kept.end()
  const warnings = kept.lines.filter(({ level }) => level === 'warn').map(({ reason }) => String(reason))
  t.notOk(warnings.some((warning, index) => warning === warnings[index - 1]), 'each reason once, not each second')
})

void t.test('a network by its name', async t => {
  const node = await PluginNode.open(t)
  node.write('05-loopback.conf', { cniVersion: '1.0.0', name: 'lo', type: 'loopback' })
  node.write('10-first.conflist', { ...network, name: 'first' })
  node.write('20-pods.conflist', network)
  Object.assign(node.plugin, { network: 'pods' })
  const kept = node.keep()
  await kept.becomes('it joins that one', () => node.types('20-pods.conflist').length === 2)
  await kept.end()
  t.strictSame(node.types('10-first.conflist'), ['bridge'])
})

void t.test('another build takes the place of the one before', async t => {
  const node = await PluginNode.open(t)
  const first = await installProgram(node.program, node.plugin)
  const inode = statSync(join(first, 'node')).ino
  t.equal(await installProgram(node.program, node.plugin), first)
  t.equal(statSync(join(first, 'node')).ino, inode, 'what is there is not copied again')
  node.build('2')
  const second = await installProgram(node.program, node.plugin)
  t.equal(await node.call(), '2: cni main 2')
  t.strictSame(node.programs.toSorted(), [first, second].map(path => path.slice(node.plugin.programFolder.length + 1)).toSorted(),
    'calls that are under way go on with the one before')
  node.build('3')
  await installProgram(node.program, node.plugin)
  t.notOk(existsSync(first), 'and then it goes')

  const third = node.plugin.programFolder
  writeFileSync(join(await installProgram(node.program, node.plugin), 'app/dist/cli/main.js'), 'half of it')
  mkdirSync(join(third, '.new'))
  writeFileSync(join(third, 'mine'), 'not ours')
  await installProgram(node.program, node.plugin)
  t.equal(await node.call(), '3: cni main 3', 'what is damaged is put right, and what was left half done goes')
  t.ok(existsSync(join(third, 'mine')) && !existsSync(join(third, '.new')))
  rmSync(node.program.root, { recursive: true })
  await t.rejects(installProgram(node.program, node.plugin), { code: 'file_unusable', message: /the plugin cannot be put in place/ })
  t.equal(await node.call(), '3: cni main 3', 'the one before goes on')
})

const noLoader = process.platform !== 'linux' && 'needs Linux'
void t.test('a real Node, by its own loader and libraries', { skip: noLoader, timeout: 120_000 }, async t => {
  const node = await PluginNode.open(t)
  const main = 'console.log(process.argv.at(-1), require("fs").readFileSync("/proc/self/maps", "utf8"))'
  writeFileSync(join(node.program.root, 'dist/cli/main.js'), main)
  const program = runningProgram(node.program.root)
  for (const name of ['/ld-', '/libc.so']) t.ok(program.libraries.some(path => path.includes(name)), name)
  const installed = await installProgram(program, node.plugin)
  const said = await node.call()
  t.match(said, /^cni /)
  const libraries = [...said.matchAll(/\s(\/\S+\.so\S*)$/gm)].map(([, path = '']) => path)
  t.ok(libraries.length > 0)
  t.strictSame(libraries.filter(path => !path.startsWith(installed)), [], 'nothing of the node\'s own is needed')
  rmSync(join(node.program.root, 'dist'), { recursive: true })
  t.throws(() => runningProgram(node.program.root), { code: 'file_unusable', message: /npm run build/ })
})
