import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'

const cache = join(import.meta.dirname, '../../node_modules/.cache/assay')
const programs = ['workload-client', 'admin-client', 'fake-agent', 'cilium-client', 'federation-peer'] as const
export type GoProgram = typeof programs[number]

/** Why the Go programs cannot be used here; `false` when they can. */
export const withoutGo: false | string = hasGo() ? false : 'there is no Go on PATH (1.25 or newer, https://go.dev/dl)'

/** @returns the folder with the executables */
export async function buildGoPrograms (): Promise<string> {
  const sources = ['go.mod', 'go.sum', 'report/*.go', 'cmd/**/*.go']
  return await buildOnce('interop', import.meta.dirname, sources, programs.map(name => `./cmd/${name}`))
}

/** A plugin of SPIRE, made with SPIRE's plugin SDK. @returns the executable, whose first argument is its type */
export async function buildGoPlugin (): Promise<string> {
  return join(await buildOnce('go-plugin', join(import.meta.dirname, 'go-plugin'), ['go.mod', 'go.sum', '*.go'], ['.']), 'plugin')
}

/**
 * Builds once for each state of the sources, into a cache that outlives the test. Tests that run at the same time may both build; the
 * first to finish wins.
 */
async function buildOnce (name: string, cwd: string, sources: readonly string[], packages: readonly string[]): Promise<string> {
  const folder = join(cache, `${name}-${sourceHash(cwd, sources)}`)
  if (existsSync(folder)) return folder
  await mkdir(cache, { recursive: true })
  const fresh = await mkdtemp(join(cache, `${name}-building-`))
  try {
    const env = { ...process.env, CGO_ENABLED: '0' }
    await promisify(execFile)('go', ['build', '-trimpath', '-o', `${fresh}/`, ...packages], { cwd, env })
    await rename(fresh, folder)
  } catch (error) {
    await rm(fresh, { recursive: true, force: true })
    if (!existsSync(folder)) throw error
  }
  return folder
}

/** One object that a program printed. */
export type Line = Readonly<Record<string, unknown>>

export interface CheckLine { readonly check: string, readonly ok: boolean, readonly detail?: string }

export interface ProgramRun {
  readonly checks: readonly CheckLine[]
  /** What it printed besides checks. */
  readonly lines: readonly Line[]
  /** Whether it ran to its end. */
  readonly done: boolean
}

/** Runs a program to its end. @param input for its standard input */
export async function runGoProgram (program: GoProgram, words: readonly string[], input = ''): Promise<ProgramRun> {
  const child = spawn(join(await buildGoPrograms(), program), words, { stdio: ['pipe', 'pipe', 'inherit'] })
  const exit = once(child, 'exit')
  child.stdin.on('error', () => undefined).end(input)
  const lines: Line[] = []
  for await (const line of createInterface({ input: child.stdout })) lines.push(JSON.parse(line) as Line)
  const [code] = await exit as [number | null]
  return {
    checks: lines.filter(isCheck),
    lines: lines.filter(line => !isCheck(line) && line['done'] === undefined),
    done: code === 0 && lines.some(line => line['done'] === true)
  }
}

/** A program that runs until it is disposed of, with what it has printed so far: lines whose `event` begins with the name of a stream. */
export class GoWatcher implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #lines: Line[] = []
  readonly #read = new Map<string, number>()

  private constructor (child: ChildProcess) {
    this.#child = child
    if (child.stdout !== null) createInterface({ input: child.stdout }).on('line', line => this.#lines.push(JSON.parse(line) as Line))
  }

  static async start (program: GoProgram, words: readonly string[]): Promise<GoWatcher> {
    return new GoWatcher(spawn(join(await buildGoPrograms(), program), words, { stdio: ['ignore', 'pipe', 'inherit'] }))
  }

  get pid (): number { return this.#child.pid as number }

  /** The lines of a stream that `next` has not given yet. */
  unread (stream: string): Line[] {
    return this.#lines.slice(this.#read.get(stream) ?? 0).filter(line => String(line['event']).startsWith(stream))
  }

  /** The next line of a stream that fits, leaving out those before it. Each line is given once. */
  async next (stream: string, what: string, fits: (line: Line) => boolean, timeoutMs = 30_000): Promise<Line> {
    const end = Date.now() + timeoutMs
    for (;;) {
      for (let at = this.#read.get(stream) ?? 0; at < this.#lines.length; at++) {
        this.#read.set(stream, at + 1)
        const line = this.#lines[at] as Line
        if (String(line['event']).startsWith(stream) && fits(line)) return line
      }
      if (Date.now() > end) throw new Error(`waited ${timeoutMs} ms for ${what}; last seen: ${JSON.stringify(this.#lines.slice(-5))}`)
      await new Promise(resolve => setTimeout(resolve, 10))
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }
}

function isCheck (line: Line): line is Line & CheckLine { return typeof line['check'] === 'string' }

function hasGo (): boolean {
  try {
    return execFileSync('go', ['version'], { stdio: ['ignore', 'pipe', 'ignore'] }).length > 0
  } catch {
    return false
  }
}

function sourceHash (folder: string, sources: readonly string[]): string {
  const hash = createHash('sha256')
  for (const file of globSync(sources, { cwd: folder }).toSorted()) {
    hash.update(file).update('\0').update(readFileSync(join(folder, file))).update('\0')
  }
  return hash.digest('hex').slice(0, 16)
}
