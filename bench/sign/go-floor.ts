import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const source = join(import.meta.dirname, '../go')
const cache = join(import.meta.dirname, '../../node_modules/.cache/assay')
const run = promisify(execFile)

/** Microseconds of CPU of Go's standard library. */
export interface GoFigures {
  /** ParseCertificateRequest, CheckSignature, CreateCertificate. */
  readonly pipeline: number
  /** CreateCertificate, which verifies its own signature. */
  readonly create: number
  readonly sign: number
  readonly verify: number
}

export interface GoFloor {
  readonly version: string
  measure (eachMs: number): Promise<GoFigures>
}

/** Builds `bench/go` once for each state of its source. @returns undefined without Go */
export async function openGoFloor (): Promise<GoFloor | undefined> {
  const program = await build()
  if (program === undefined) return undefined
  const measure = async (eachMs: number) => {
    const { stdout } = await run(program, ['-each', `${eachMs}ms`])
    return JSON.parse(stdout) as { microseconds: GoFigures, version: string }
  }
  const { version } = await measure(1)
  return { version, measure: async eachMs => (await measure(eachMs)).microseconds }
}

async function build (): Promise<string | undefined> {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'main.go']) hash.update(readFileSync(join(source, name)))
  const program = join(cache, `bench-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(program)) return program
  await mkdir(cache, { recursive: true })
  const unfinished = `${program}.${process.pid}`
  try {
    const env = { ...process.env, GOFLAGS: '', GOTOOLCHAIN: 'local', GOWORK: 'off' }
    await run('go', ['build', '-o', unfinished, '.'], { cwd: source, env })
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
  await rename(unfinished, program)
  return program
}
