import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { z } from 'zod'
import type { Clock } from '../../runtime/clock.ts'
import { readStartTime } from '../../runtime/process-facts.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** A process, started here or by who was here before. */
export interface RunningEnvoy {
  readonly pid: number
  /** Where to look for how it ended, for people. */
  readonly ended: Promise<string>
  kill (signal: 'SIGTERM' | 'SIGKILL'): void
  /** Lets it live on without this process. */
  release (): void
}

/** An Envoy as it is written down for who comes next; its number alone could be another process's by then. */
export interface LeftEnvoy { readonly pid: number, readonly startTime: string, readonly kind: string }

const leftSchema = z.strictObject({ pid: z.int().min(2), startTime: z.string(), kind: z.string() })
const lookEveryMs = 100

/** @returns `undefined` when there is no such file, or it is not whole */
export function readLeft (file: string): LeftEnvoy | undefined {
  try {
    return leftSchema.safeParse(JSON.parse(readFileSync(file, 'utf8'))).data
  } catch {
    return undefined
  }
}

/**
 * Starts one as nobody's child: Envoy asks the kernel for SIGTERM when its parent dies, and must live on when the agent is killed. So it
 * cannot be waited for, only looked at.
 * @param output descriptor of the file it writes to; closed here
 * @throws {SpiffeError} `proxy_failed`
 */
export async function startEnvoy (command: string, args: readonly string[], output: number): Promise<number> {
  // The shell tells the number and is gone before Envoy asks.
  const script = '"$@" >&3 2>&1 3>&- & echo $!'
  const shell = spawn('/bin/sh', ['-c', script, 'sh', command, ...args], { stdio: ['ignore', 'pipe', 'ignore', output] })
  closeSync(output)
  const [told] = await Promise.all([text(shell.stdout as Readable), once(shell, 'exit')])
  const pid = Number(told)
  if (!Number.isInteger(pid) || pid < 2) throw new SpiffeError('proxy_failed', `${command} cannot be started`)
  return pid
}

/** Starts one that ends when this process does, whatever ends that: Envoy sees to it. @throws {SpiffeError} `proxy_failed` */
export async function startChildEnvoy (command: string, args: readonly string[], output: number): Promise<number> {
  const child = spawn(command, args, { stdio: ['ignore', output, output] })
  closeSync(output)
  try {
    await once(child, 'spawn')
  } catch (error) {
    throw new SpiffeError('proxy_failed', `${command} cannot be started`, { cause: error })
  }
  child.unref()
  return child.pid as number
}

/** @throws {SpiffeError} `proxy_failed` when there is no such program, or it is none */
export async function checkEnvoy (command: string): Promise<void> {
  try {
    await promisify(execFile)(command, ['--version'], { timeout: 10_000 })
  } catch (error) {
    throw new SpiffeError('proxy_failed', `${command} cannot be started`, { cause: error })
  }
}

/** Looks at one until it ends. */
export function watchEnvoy ({ pid, startTime }: Pick<LeftEnvoy, 'pid' | 'startTime'>, clock: Clock): RunningEnvoy {
  const over = new AbortController()
  const gone = async () => {
    // Left to others, it ends when they say so.
    while (readStartTime(pid) === startTime && !over.signal.aborted) await clock.sleep(lookEveryMs, over.signal).catch(() => {})
    return 'see its last lines'
  }
  return {
    pid,
    ended: gone(),
    kill (name) {
      if (readStartTime(pid) === startTime) process.kill(pid, name)
    },
    release: () => over.abort(new Error('it is left to others'))
  }
}
