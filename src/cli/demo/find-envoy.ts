import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const minimum = [1, 40]
const brought = join(import.meta.dirname, '../../../.assay-tools/envoy-1.40.0/envoy/_bin/envoy')

/** The Envoy that set-up brought, or the first on PATH that is new enough. Throws an error that says what to do when there is none. */
export async function findEnvoy (path: string | undefined): Promise<{ readonly file: string, readonly version: string }> {
  const tooOld = []
  for (const file of [brought, ...(path ?? '').split(delimiter).map(folder => join(folder, 'envoy'))]) {
    const version = await versionOf(file)
    if (version === undefined) continue
    if (isEnough(version)) return { file, version }
    tooOld.push(`${file} is ${version}`)
  }
  const found = tooOld.length > 0 ? tooOld.join(', ') : 'there is none'
  throw new Error(`Envoy ${minimum.join('.')} or newer is needed (${found}); in a clone, node scripts/setup.mjs envoy brings it`)
}

async function versionOf (file: string): Promise<string | undefined> {
  try {
    await access(file, constants.X_OK)
    return /\/(\d+\.\d+\.\d+)[^/]*\//.exec((await run(file, ['--version'])).stdout)?.[1]
  } catch {
    return undefined
  }
}

function isEnough (version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > (minimum[0] ?? 0) || (major === minimum[0] && minor >= (minimum[1] ?? 0))
}
