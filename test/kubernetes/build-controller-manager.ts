import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const source = join(import.meta.dirname, 'spire-controller-manager')
/** Outside the checkout: a build takes three minutes of CPU, and serves every checkout. */
const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'assay')
const version = '0.6.4'

/** Why SPIRE's controller manager cannot be run here, or false. */
export function controllerManagerMissing (): string | false {
  if (given() !== undefined || existsSync(built())) return false
  if (process.env['SPIRE_CONTROLLER_MANAGER_BUILD'] !== '1') {
    return 'there is no spire-controller-manager: name one in SPIRE_CONTROLLER_MANAGER_BIN, or set SPIRE_CONTROLLER_MANAGER_BUILD=1 to ' +
      `have it built into ${cache} (Go, three minutes of CPU, once)`
  }
  return spawnSync('go', ['version']).error === undefined ? false : 'there is no Go to build spire-controller-manager with'
}

/** The program's path; built if that was asked for. */
export async function controllerManager (): Promise<string> {
  const program = given() ?? built()
  if (existsSync(program)) return program
  await mkdir(cache, { recursive: true })
  const fresh = await mkdtemp(join(cache, 'spire-controller-manager-building-'))
  const module = 'github.com/spiffe/spire-controller-manager/cmd'
  try {
    await promisify(execFile)('go', ['build', '-trimpath', '-ldflags=-s -w', '-o', join(fresh, 'manager'), module], {
      cwd: source, env: { ...process.env, CGO_ENABLED: '0' }, maxBuffer: 16 * 1024 * 1024
    })
    await rename(join(fresh, 'manager'), program)
  } finally {
    await rm(fresh, { recursive: true, force: true })
  }
  return program
}

function given (): string | undefined { return process.env['SPIRE_CONTROLLER_MANAGER_BIN'] || undefined }

function built (): string {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'go.sum']) hash.update(readFileSync(join(source, name))).update('\0')
  return join(cache, `spire-controller-manager-${version}-${hash.digest('hex').slice(0, 16)}`)
}
