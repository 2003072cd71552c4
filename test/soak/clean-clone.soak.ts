import t from 'tap'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

const root = join(import.meta.dirname, '..', '..')
const ownWorkMs = 120_000

/** Without what this checkout and the test runner put into the environment. */
function environment (temporary: string): Record<string, string | undefined> {
  const { PATH = '', HOME } = process.env
  const path = PATH.split(delimiter).filter(folder => !folder.endsWith(join('node_modules', '.bin'))).join(delimiter)
  return { PATH: path, HOME, TMPDIR: temporary }
}

function git (...words: string[]) {
  const { status, stdout, stderr } = spawnSync('git', ['-c', 'safe.directory=*', ...words], { encoding: 'utf8' })
  // Without git there is no output at all.
  return { status, stdout: stdout ?? '', stderr }
}

const commit = git('-C', root, 'rev-parse', 'HEAD').stdout.trim()
const skip = commit === '' ? 'this is no git checkout' : false

/**
 * Downloads aside: the clone gets the packages and the Envoy of this checkout, so that the proof needs no network. That they
 * are fetched, and what is said when they cannot be, is in test/setup/.
 */
void t.test('a clean clone runs the demo with one command', { timeout: 300_000, skip }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-clone-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const clone = join(folder, 'clone')
  const temporary = await mkdtemp(join(folder, 'tmp-'))
  t.match(git('clone', '--quiet', root, clone), { status: 0 }, `commit ${commit}`)
  t.match(git('-C', clone, 'checkout', '--quiet', commit), { status: 0 })
  await cp(join(root, 'node_modules'), join(clone, 'node_modules'), { recursive: true, verbatimSymlinks: true })
  if (existsSync(join(root, '.assay-tools'))) await symlink(join(root, '.assay-tools'), join(clone, '.assay-tools'))

  const started = performance.now()
  const { status, stdout, stderr } = spawnSync('env', ['-u', 'NODE_OPTIONS', 'npm', 'start', '--', '--once'], {
    cwd: clone, env: environment(temporary), encoding: 'utf8', timeout: 2 * ownWorkMs
  })
  const tookMs = performance.now() - started
  t.equal(status, 0, `npm start -- --once:\n${stdout}\n${stderr}`)
  t.match(stdout, /spiffe:\/\/example\.org\/web/, 'the peer saw who called')
  t.ok(tookMs < ownWorkMs, `in ${Math.round(tookMs / 1000)} s`)
  t.same(await readdir(temporary), [], 'no file is left behind')
  const changed = git('-C', clone, 'status', '--porcelain').stdout.split('\n').filter(line => line !== '' && line !== '?? .assay-tools')
  t.same(changed, [], 'and none in the clone that git does not ignore')
})
