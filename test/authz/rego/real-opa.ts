import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

export { withoutGo } from '../../interop/go-programs.ts'

const source = join(import.meta.dirname, 'opa')
const cache = join(import.meta.dirname, '../../../node_modules/.cache/assay')

/**
 * Builds the `opa` that `opa/go.mod` names, once for each version, into a cache that outlives the test: about 140 s of CPU from nothing,
 * and some
 * seconds with Go's own cache.
 * @returns the program's path
 */
export async function buildOpa (): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'go.sum', 'main.go']) hash.update(readFileSync(join(source, name))).update('\0')
  const folder = join(cache, `opa-${hash.digest('hex').slice(0, 16)}`)
  const program = join(folder, 'opa')
  if (existsSync(program)) return program
  await mkdir(cache, { recursive: true })
  const fresh = await mkdtemp(join(cache, 'opa-building-'))
  try {
    await promisify(execFile)('go', ['build', '-trimpath', '-ldflags=-s -w', '-o', join(fresh, 'opa'), '.'], {
      cwd: source, env: { ...process.env, CGO_ENABLED: '0' }
    })
    await rename(fresh, folder)
  } catch (error) {
    await rm(fresh, { recursive: true, force: true })
    if (!existsSync(program)) throw error
  }
  return program
}

/** @returns what it printed */
export async function runOpa (words: readonly string[], folder?: string): Promise<string> {
  const { stdout } = await promisify(execFile)(await buildOpa(), words, { cwd: folder, maxBuffer: 64 * 1024 * 1024 })
  return stdout
}

export async function writeFiles (folder: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), content)
  }
}
