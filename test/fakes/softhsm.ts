import { execFileSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const modules = [
  '/usr/lib/softhsm/libsofthsm2.so', '/usr/lib/*/softhsm/libsofthsm2.so', '/usr/lib64/softhsm/libsofthsm.so',
  '/usr/local/lib/softhsm/libsofthsm2.so'
]

function modulePath (): string | undefined { return modules.flatMap(pattern => globSync(pattern)).find(path => existsSync(path)) }

/** Why tests that need SoftHSM cannot run here, or `false`; fits tap's `skip`. */
export function softhsmMissing (): string | false {
  if (modulePath() === undefined) return 'libsofthsm2.so is not there: apt install softhsm2'
  try {
    execFileSync('softhsm2-util', ['--version'], { stdio: 'ignore' })
    return false
  } catch {
    return 'softhsm2-util is not on PATH: apt install softhsm2'
  }
}

export interface SoftHsm extends Disposable {
  readonly modulePath: string
  readonly tokenLabel: string
  readonly pin: string
  readonly folder: string
}

/** A token of its own, in a temporary folder; `SOFTHSM2_CONF` leads this process to it, and those that it starts. */
export function startSoftHsm (): SoftHsm {
  const folder = mkdtempSync(join(tmpdir(), 'assay-softhsm-'))
  mkdirSync(join(folder, 'tokens'))
  writeFileSync(join(folder, 'conf'), [
    `directories.tokendir = ${join(folder, 'tokens')}`, 'objectstore.backend = file', 'log.level = ERROR', ''
  ].join('\n'))
  process.env['SOFTHSM2_CONF'] = join(folder, 'conf')
  const hsm = {
    modulePath: modulePath() as string,
    tokenLabel: 'assay test',
    pin: '271828',
    folder,
    [Symbol.dispose] () {
      delete process.env['SOFTHSM2_CONF']
      rmSync(folder, { recursive: true, force: true })
    }
  }
  const words = ['--init-token', '--free', '--label', hsm.tokenLabel, '--pin', hsm.pin, '--so-pin', '314159']
  execFileSync('softhsm2-util', words, { stdio: 'ignore' })
  return hsm
}
