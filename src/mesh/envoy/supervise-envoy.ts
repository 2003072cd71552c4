import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { envoyBootstrap } from './bootstrap.ts'

export interface EnvoyOptions {
  /** The program. */
  readonly command: string
  /** For its bootstrap and its admin socket; made if it is not there. */
  readonly folder: string
  readonly xdsSocketPath: string
  readonly nodeId: string
  /** Worker threads; `undefined`: one per CPU. */
  readonly concurrency: number | undefined
}

export interface EnvoyStatus {
  /** `undefined` while none runs. */
  readonly pid: number | undefined
  readonly restarts: number
  readonly lastExit: string | undefined
  readonly adminSocketPath: string
}

export interface SupervisedEnvoy {
  readonly status: EnvoyStatus
  /**
   * Keeps one Envoy running until the signal aborts, then ends it.
   * @throws {SpiffeError} `proxy_failed` when it cannot be started at all
   */
  run (signal: AbortSignal): Promise<void>
}

const firstRestartMs = 200
const longestRestartMs = 30_000
/** One that ran this long was well: the next restart is soon again. */
const wellAfterMs = 60_000
/** For its connections to end after SIGTERM. */
const partingMs = 5_000
/** What open connections of a listener that goes get, in seconds: by default it would be ten minutes, with the old identity. */
const drainSeconds = 2
/** Who looks for a refused call in the access log looks now; Envoy's own choice is ten seconds. */
const logFlushMs = 200

/** The node's Envoy as a child of the agent: started, its lines in the agent's log, started again when it ends. */
export function superviseEnvoy (options: EnvoyOptions, clock: Clock, log: Logger): SupervisedEnvoy {
  const { folder, command } = options
  const adminSocketPath = join(folder, 'admin.sock')
  let child: ChildProcess | undefined
  let restarts = 0
  let lastExit: string | undefined

  const start = (): ChildProcess => {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const bootstrap = join(folder, 'bootstrap.json')
    writeFileSync(bootstrap, JSON.stringify(envoyBootstrap({ ...options, adminSocketPath }), undefined, 2), { mode: 0o600 })
    const args = [
      '-c', bootstrap, '--use-dynamic-base-id', '--drain-time-s', String(drainSeconds), '--drain-strategy', 'immediate',
      '--file-flush-interval-msec', String(logFlushMs), '--log-format', '%l %v', '-l', 'warning',
      ...options.concurrency === undefined ? [] : ['--concurrency', String(options.concurrency)]
    ]
    const started = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    forward(started.stdout, log)
    forward(started.stderr, log)
    return started
  }

  return {
    get status () { return { pid: child?.pid, restarts, lastExit, adminSocketPath } },
    async run (signal) {
      for (let waitMs = firstRestartMs; !signal.aborted;) {
        const began = clock.monotonicMs()
        child = start()
        log.info({ pid: child.pid, command }, 'envoy started')
        const ended = exitOf(child, signal)
        lastExit = await ended
        child = undefined
        if (signal.aborted) return
        if (clock.monotonicMs() - began > wellAfterMs) waitMs = firstRestartMs
        restarts++
        log.error({ exit: lastExit, restartInMs: waitMs, restarts }, 'envoy ended; starting it again')
        await clock.sleep(waitMs, signal).catch((error: unknown) => { if (!isStop(error, signal)) throw error })
        waitMs = Math.min(longestRestartMs, waitMs * 2)
      }
    }
  }

  /** How it ended, for people. When the signal aborts it is asked to end, and given some time. */
  async function exitOf (running: ChildProcess, signal: AbortSignal): Promise<string> {
    const over = new AbortController()
    const stop = () => {
      running.kill('SIGTERM')
      clock.sleep(partingMs, over.signal).then(() => running.kill('SIGKILL'), () => {})
    }
    signal.addEventListener('abort', stop, { once: true })
    try {
      return await new Promise<string>((resolve, reject) => {
        running.once('error', error => reject(new SpiffeError('proxy_failed', `${command} cannot be started`, { cause: error })))
        running.once('exit', (code, name) => resolve(name === null ? `exit code ${code}` : `signal ${name}`))
      })
    } finally {
      signal.removeEventListener('abort', stop)
      over.abort()
    }
  }
}

const levels = { trace: 'trace', debug: 'debug', info: 'info', warning: 'warn', warn: 'warn', error: 'error', critical: 'error' } as const

function forward (stream: Readable, log: Logger): void {
  createInterface({ input: stream }).on('line', line => {
    const [, level = '', text = line] = /^(\w+) (.*)$/.exec(line) ?? []
    const known = levels[level as keyof typeof levels] as (typeof levels)[keyof typeof levels] | undefined
    log[known ?? 'info']({ from: 'envoy' }, known === undefined ? line : text)
  })
}
