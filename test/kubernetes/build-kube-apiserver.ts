import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const source = join(import.meta.dirname, 'kube-apiserver')
/** Outside the checkout: a build takes ten minutes of CPU, and serves every checkout. */
const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'assay')
const version = '1.36.3'

/** Why no API server can be run here, or false. */
export function kubeApiserverMissing (): string | false {
  if (spawnSync('etcd', ['--version']).error !== undefined) return 'etcd is not installed (Debian package etcd-server)'
  if (given() !== undefined || existsSync(built()) || process.env['KUBE_APISERVER_BUILD'] === '1') return false
  return `there is no kube-apiserver: name one in KUBE_APISERVER_BIN, or set KUBE_APISERVER_BUILD=1 to have it built into ${cache} ` +
    '(Go, ten minutes of CPU, once)'
}

/** The program's path; built if that was asked for. */
export async function kubeApiserver (): Promise<string> {
  const program = given() ?? built()
  if (existsSync(program)) return program
  await mkdir(cache, { recursive: true })
  const fresh = await mkdtemp(join(cache, 'kube-apiserver-building-'))
  const about = Object.entries({ gitVersion: `v${version}`, gitMajor: '1', gitMinor: version.split('.')[1] as string })
    .map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`)
  try {
    await promisify(execFile)('go', ['build', '-trimpath', `-ldflags=-s -w ${about.join(' ')}`, '-o', join(fresh, 'kube-apiserver'), '.'], {
      cwd: source, env: { ...process.env, CGO_ENABLED: '0' }, maxBuffer: 16 * 1024 * 1024
    })
    await rename(join(fresh, 'kube-apiserver'), program)
  } finally {
    await rm(fresh, { recursive: true, force: true })
  }
  return program
}

function given (): string | undefined { return process.env['KUBE_APISERVER_BIN'] || undefined }

function built (): string {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'go.sum', 'main.go']) hash.update(readFileSync(join(source, name))).update('\0')
  return join(cache, `kube-apiserver-${version}-${hash.digest('hex').slice(0, 16)}`)
}
