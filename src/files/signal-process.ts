import { readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { readStartTime } from '../runtime/process-facts.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { SignalConfig } from './files-config.ts'

const largestPidFile = 4_096
/** What the kernel says of programs is in these on every Linux. */
const ticksPerSecond = 100
/** Boot time is told in whole seconds. */
const toleranceMs = 5_000

/**
 * Sends a signal to a process that others started, once it is sure that it is the one: what it runs is `program`, or else it was there when
 * the file was written.
 * @returns its number
 * @throws {SpiffeError} `reload_failed`
 */
export function signalProcess (
  { file, pid: known, program, signal }: SignalConfig,
  kill: (pid: number, signal: NodeJS.Signals) => true = (...words) => process.kill(...words)
): number {
  const pid = known ?? readPidFile(file as string)
  const startTime = readStartTime(pid)
  if (startTime === undefined) throw failed(`there is no process ${pid}${file === undefined ? '' : `, which ${file} names`}`)
  if (program !== undefined) checkProgram(pid, program)
  else checkAge(pid, startTime, file as string)
  try {
    kill(pid, signal)
  } catch (cause) {
    throw failed(`process ${pid} cannot be sent ${signal}: ${(cause as Error).message}`, cause)
  }
  return pid
}

/** PostgreSQL writes more lines after the first. */
function readPidFile (path: string): number {
  let line: string
  try {
    if (statSync(path).size > largestPidFile) throw new Error(`it is larger than ${largestPidFile} bytes`)
    line = readFileSync(path, 'latin1').split('\n', 1)[0]?.trim() ?? ''
  } catch (cause) {
    throw failed(`the pid file cannot be read: ${(cause as Error).message}`, cause)
  }
  const pid = /^\d{1,10}$/.test(line) ? Number(line) : 0
  if (pid < 2 || pid === process.pid) throw failed(`the first line of ${path} is no number of a process that could be meant`)
  return pid
}

function checkProgram (pid: number, program: string): void {
  let runs: string
  try {
    // After an upgrade the old one runs on, its file is gone.
    runs = readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, '')
  } catch (cause) {
    throw failed(`what process ${pid} runs cannot be read: ${(cause as Error).message}`, cause)
  }
  let wanted = program
  try {
    wanted = realpathSync(program)
  } catch { /* Gone from the disk: only its name is left to compare. */ }
  if (runs !== wanted) throw failed(`process ${pid} runs ${runs} and not ${program}, and is left alone`)
}

function checkAge (pid: number, startTime: string, file: string): void {
  const bootSeconds = Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1] ?? NaN)
  const startedMs = (bootSeconds + Number(startTime) / ticksPerSecond) * 1_000
  if (startedMs <= statSync(file).mtimeMs + toleranceMs) return
  throw failed(`process ${pid} began after ${file} was written, so it is another one, and is left alone; pid_program says what it must run`)
}

function failed (message: string, cause?: unknown): SpiffeError { return new SpiffeError('reload_failed', message, { cause }) }
