import t from 'tap'
import { spawnSync, type SpawnSyncOptions } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const root = join(import.meta.dirname, '..', '..')

function run (command: string, words: readonly string[], options: SpawnSyncOptions = {}) {
  const { status, stdout, stderr } = spawnSync(command, words, { cwd: root, ...options, encoding: 'utf8' })
  return { status, stdout, stderr }
}

void t.test('the package can be packed, installed and run', { timeout: 300_000 }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-pack-'))
  t.teardown(() => rm(folder, { recursive: true }))
  await rm(join(root, 'dist'), { recursive: true, force: true })
  // The test runner's NODE_OPTIONS would reach into the compiler.
  const pack = ['-u', 'NODE_OPTIONS', 'npm', 'pack', '--pack-destination', folder]
  t.match(run('env', pack), { status: 0 }, 'packing builds dist/ first')
  const [tarball] = await readdir(folder)
  t.match(tarball, /^assay-.*\.tgz$/)
  t.match(run('tar', ['-xzf', tarball as string], { cwd: folder }), { status: 0 })
  const unpacked = join(folder, 'package')
  const { bin, version } = JSON.parse(await readFile(join(unpacked, 'package.json'), 'utf8')) as { bin: { assay: string }, version: string }
  // The dependencies are those of this checkout: a test does not download.
  await symlink(join(root, 'node_modules'), join(unpacked, 'node_modules'))
  const main = join(unpacked, bin.assay)
  const PATH = `${join(root, 'node_modules', '.bin')}:${process.env.PATH}`
  const assay = (...words: string[]) => run(main, words, { cwd: folder, env: { PATH } })
  t.same(assay('--version'), { status: 0, stdout: `assay ${version}\n`, stderr: '' }, 'the bin is executable and finds its package')
  t.match(assay('entry', 'create', '--help'), { status: 0, stdout: /-parentID/ })
  t.match(assay('completion', 'bash'), { status: 0, stdout: /complete -o filenames/ }, 'every command can be loaded')
  t.match(assay('entry', 'show', '-socketPath', '/nonexistent/s'), { status: 1, stderr: /code: server_unreachable/ }, 'with gRPC')
  t.match(assay('server', 'validate', '-trustDomain', 'example.org', '-dataDir', folder), { status: 0, stdout: /is valid/ })
  const load = `await import(${JSON.stringify(pathToFileURL(join(unpacked, 'dist', 'server', 'server.js')).href)});` +
    `await import(${JSON.stringify(pathToFileURL(join(unpacked, 'dist', 'agent', 'agent.js')).href)})`
  await writeFile(join(folder, 'load.mjs'), load)
  t.match(run(process.execPath, ['load.mjs'], { cwd: folder }), { status: 0, stderr: '' }, 'server and agent can be loaded')
})
