import { hash } from 'node:crypto'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { readStartTime } from '../../runtime/process-facts.ts'
import { askEnvoy } from './admin-interface.ts'
import { EnvoyLog } from './envoy-log.ts'
import { envoyBootstrap } from './bootstrap.ts'
import { readEnvoyState } from './envoy-state.ts'
import { checkEnvoy, type LeftEnvoy, readLeft, type RunningEnvoy, startChildEnvoy, startEnvoy, watchEnvoy } from './running-envoy.ts'

export interface EnvoyOptions {
  /** The program. */
  readonly command: string
  /** For its bootstrap and its admin socket; made if it is not there. */
  readonly folder: string
  readonly xdsSocketPath: string
  readonly nodeId: string
  /** Worker threads; `undefined`: one per CPU. */
  readonly concurrency: number | undefined
  /** Whether Envoy lives on when this process is killed, for the next one to take over. */
  readonly outlivesAgent: boolean
  /** Whether this process must stop because another takes its place. */
  readonly isHandover: (reason: unknown) => boolean
}

export interface EnvoyStatus {
  /** `undefined` while none runs. */
  readonly pid: number | undefined
  readonly restarts: number
  readonly lastExit: string | undefined
  readonly adminSocketPath: string
  /** What it wrote last, oldest first. */
  readonly recentLines: readonly string[]
}

export interface SupervisedEnvoy {
  readonly status: EnvoyStatus
  /**
   * Keeps one Envoy running until the signal aborts, then ends it, unless it outlives this process. One that an earlier process left
   * behind, because it was killed or handed over, is taken over as it is, and connections through it go on.
   * @throws {SpiffeError} `proxy_failed` when it cannot be started at all
   */
  run (signal: AbortSignal): Promise<void>
}

const firstRestartMs = 200
const longestRestartMs = 30_000
/** One that ran this long was well: the next restart is soon again. */
const wellAfterMs = 60_000
const passEveryMs = 200
/** For an Envoy to end after SIGTERM, and before that, for connections of one that another takes the place of. */
const partingMs = 5_000
/** For one that takes another's place to serve what that serves. */
const successionMs = 30_000
/** What open connections of a listener that goes get, in seconds: by default it would be ten minutes, with the old identity. */
export const drainSeconds = 2
/** Who looks for a refused call in the access log looks now; Envoy's own choice is ten seconds. */
const logFlushMs = 200

/** The node's Envoy: started, its lines in the agent's log, started again when it ends, left alone when only the agent does. */
export function superviseEnvoy (options: EnvoyOptions, clock: Clock, log: Logger): SupervisedEnvoy {
  const { folder, command } = options
  const adminSocketPath = join(folder, 'admin.sock')
  const lines = new EnvoyLog(join(folder, 'envoy.log'), log)
  const pidFile = join(folder, 'envoy.pid')
  const retiring = { pidFile: join(folder, 'retiring.pid'), adminSocketPath: join(folder, 'retiring.sock') }
  let current: RunningEnvoy | undefined
  let restarts = 0
  let lastExit: string | undefined

  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const bootstrapFile = join(folder, 'bootstrap.json')
  const bootstrap = JSON.stringify(envoyBootstrap({ ...options, adminSocketPath }), undefined, 2)
  const args = [
    '-c', bootstrapFile, '--use-dynamic-base-id', '--drain-time-s', String(drainSeconds), '--drain-strategy', 'immediate',
    '--file-flush-interval-msec', String(logFlushMs), '--log-format', '%l %v', '-l', 'warning',
    ...options.concurrency === undefined ? [] : ['--concurrency', String(options.concurrency)]
  ]
  // What another one was started with makes it another.
  const kind = hash('sha256', JSON.stringify([command, args, bootstrap]))

  const start = async (): Promise<RunningEnvoy> => {
    writeFileSync(bootstrapFile, bootstrap, { mode: 0o600 })
    const pid = await (options.outlivesAgent ? startEnvoy : startChildEnvoy)(command, args, lines.begin())
    const left: LeftEnvoy = { pid, startTime: readStartTime(pid) ?? '', kind }
    writeDown(pidFile, left)
    log.info({ pid, command }, 'envoy started')
    return watchEnvoy(left, clock)
  }

  let retired: Promise<unknown> | undefined

  /** One that was started as this one would be; any other one is retired beside the next, which can listen at the same places. */
  const takeOver = async (signal: AbortSignal): Promise<RunningEnvoy | undefined> => {
    const forgotten = find(retiring.pidFile)
    if (forgotten !== undefined) await end(watchEnvoy(forgotten, clock))
    const left = find(pidFile)
    if (left === undefined) return undefined
    const found = watchEnvoy(left, clock)
    if (left.kind !== kind) {
      // Whoever comes after this process, should it be killed, ends it.
      writeDown(retiring.pidFile, left)
      retired = retire(found, signal)
      return undefined
    }
    log.info({ pid: left.pid }, 'an envoy that was left behind is taken over')
    lines.skip()
    return found
  }

  /** Drained once the next one serves, whose first looks at this node's own workloads would find nobody otherwise; then ended. */
  const retire = async (old: RunningEnvoy, signal: AbortSignal): Promise<void> => {
    try {
      renameSync(adminSocketPath, retiring.adminSocketPath)
      await serves(signal)
      log.info({ pid: old.pid }, 'an envoy that was started otherwise is drained')
      await askEnvoy(retiring.adminSocketPath, '/drain_listeners?graceful', { method: 'POST', signal })
      await clock.sleep(partingMs, signal)
    } catch (error) {
      if (!isStop(error, signal)) log.warn({ err: error }, 'envoy does not answer; its connections are cut')
    } finally {
      await end(old)
      for (const file of [retiring.pidFile, retiring.adminSocketPath]) rmSync(file, { force: true })
    }
  }

  /** Returns once the Envoy of now serves all that the old one does, or has not for long. */
  const serves = async (signal: AbortSignal): Promise<void> => {
    const endMs = clock.monotonicMs() + successionMs
    let wanted = 1
    while (clock.monotonicMs() < endMs) {
      const [old, now] = await Promise.all([retiring.adminSocketPath, adminSocketPath].map(path => readEnvoyState(path, signal)))
      // Both are told the same, and the new one of one listener after the other: it is live with the first of them.
      wanted = Math.max(old?.listeners ?? wanted, 1)
      if (now?.state === 'LIVE' && now.listeners >= wanted && now.listenersWarming === 0 && now.clustersWarming === 0) return
      await clock.sleep(passEveryMs, signal)
    }
    log.warn({ afterMs: successionMs }, 'the envoy that takes the place of another does not serve yet')
  }

  return {
    get status () { return { pid: current?.pid, restarts, lastExit, adminSocketPath, recentLines: lines.recent } },
    async run (signal) {
      await checkEnvoy(command)
      try {
        await keepRunning(await takeOver(signal), signal)
      } finally {
        await retired
      }
    }
  }

  async function keepRunning (next: RunningEnvoy | undefined, signal: AbortSignal): Promise<void> {
    // One that was taken over is ended, or left, also when there was no time for more.
    for (let waitMs = firstRestartMs; next !== undefined || !signal.aborted;) {
      const began = clock.monotonicMs()
      current = next ?? await start()
      next = undefined
      const exit = await exitOf(current, signal)
      current = undefined
      if (signal.aborted) return
      lastExit = exit
      if (clock.monotonicMs() - began > wellAfterMs) waitMs = firstRestartMs
      restarts++
      log.error({ exit: lastExit, restartInMs: waitMs, restarts }, 'envoy ended; starting it again')
      await clock.sleep(waitMs, signal).catch((error: unknown) => { if (!isStop(error, signal)) throw error })
      waitMs = Math.min(longestRestartMs, waitMs * 2)
    }
  }

  /** How it ended, for people. When the signal aborts it is ended, or left alone. */
  async function exitOf (running: RunningEnvoy, signal: AbortSignal): Promise<string> {
    const { promise: stopped, resolve } = Promise.withResolvers<'stopped'>()
    const stop = () => resolve('stopped')
    const over = new AbortController()
    const passing = passLines(over.signal)
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    try {
      const how = await Promise.race([running.ended, stopped])
      if (how !== 'stopped') return how
      if (options.outlivesAgent && options.isHandover(signal.reason)) {
        running.release()
        log.info({ pid: running.pid }, 'envoy stays for who comes next')
        return ''
      }
      return await end(running)
    } finally {
      signal.removeEventListener('abort', stop)
      over.abort(new Error('envoy has ended'))
      await passing
    }
  }

  async function passLines (signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await clock.sleep(passEveryMs, signal).catch(() => {})
      lines.pass()
    }
  }

  async function end (running: RunningEnvoy): Promise<string> {
    const over = new AbortController()
    running.kill('SIGTERM')
    clock.sleep(partingMs, over.signal).then(() => running.kill('SIGKILL'), () => {})
    return await running.ended.finally(() => over.abort())
  }
}

function writeDown (file: string, left: LeftEnvoy): void { writeFileSync(file, JSON.stringify(left), { mode: 0o600 }) }

/** The Envoy that the file names, if it is still there. */
function find (file: string): LeftEnvoy | undefined {
  const left = readLeft(file)
  return left !== undefined && readStartTime(left.pid) === left.startTime ? left : undefined
}
