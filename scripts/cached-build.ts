import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** Outside the checkout: what takes minutes to build serves every checkout. */
const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'assay')

/** A program of others, in Go, that tests run for real. */
export interface CachedBuild {
  readonly name: string
  readonly version: string
  /** The environment's variable that names one. */
  readonly variable: string
  /** The one that is `1` for one to be built. */
  readonly buildVariable: string
  /** What a build costs, for who is asked to have it made. */
  readonly costs: string
  /** Files that say what is built. */
  readonly inputs: readonly string[]
  /** @param program its path to be @param folder for whatever else there is meanwhile */
  readonly build: (program: string, folder: string) => Promise<void>
}

/** Why it cannot be run here, or false. */
export function buildMissing (build: CachedBuild): string | false {
  if (given(build) !== undefined || existsSync(built(build))) return false
  const { name, variable, buildVariable, costs } = build
  if (process.env[buildVariable] !== '1') {
    return `there is no ${name}: name one in ${variable}, or set ${buildVariable}=1 to have it built into ${cache} (Go, ${costs}, once)`
  }
  return spawnSync('go', ['version']).error === undefined ? false : `there is no Go to build ${name} with`
}

/** The program's path: one that was named, whatever it is, or ours; built if that was asked for. */
export async function builtProgram (build: CachedBuild): Promise<string> {
  const named = given(build)
  if (named !== undefined) return named
  const program = built(build)
  if (existsSync(program)) return program
  await mkdir(cache, { recursive: true })
  const folder = await mkdtemp(join(cache, `${build.name}-building-`))
  try {
    const fresh = join(folder, build.name)
    await build.build(fresh, folder)
    // Whoever else builds the same at this moment is overtaken, or overtakes.
    await rename(fresh, program)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return program
}

/** Programs that need no C, and so no compiler for it. */
export const withoutC = { CGO_ENABLED: '0' } as const

/** Runs Go in a folder. @returns what it printed */
export async function runGo (cwd: string, words: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const options = { cwd, env: { ...process.env, ...env }, maxBuffer: 16 * 1024 * 1024 }
  return (await promisify(execFile)('go', words, options)).stdout
}

function given ({ variable }: CachedBuild): string | undefined { return process.env[variable] || undefined }

function built ({ name, version, inputs }: CachedBuild): string {
  const hash = createHash('sha256')
  for (const file of inputs) hash.update(readFileSync(file)).update('\0')
  return join(cache, `${name}-${version}-${hash.digest('hex').slice(0, 16)}`)
}
