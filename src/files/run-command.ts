import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'

const mostOutput = 1_000

/**
 * Runs a program, without a shell, to its end.
 * @param argv the program and its arguments
 * @throws {SpiffeError} `reload_failed` when it cannot be started, ends with another code than 0, or not in time: it is killed then
 */
export async function runCommand (argv: readonly string[], timeoutMs: number, clock: Clock, signal: AbortSignal): Promise<void> {
  const [program, ...args] = argv as [string, ...string[]]
  signal.throwIfAborted()
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const streams: readonly Readable[] = [child.stdout, child.stderr]
  for (const stream of streams) {
    stream.setEncoding('utf8').on('data', (text: string) => { output = (output + text).slice(-mostOutput) }).on('error', () => {})
  }
  const rest = new AbortController()
  let why = ''
  const end = (reason: string) => { why = reason; child.kill('SIGKILL') }
  const stop = () => end('it was stopped')
  signal.addEventListener('abort', stop, { once: true })
  clock.sleep(timeoutMs, rest.signal).then(() => end(`it has not ended within ${timeoutMs} ms, and was killed`), () => {})
  try {
    // Not `close`: what it leaves running may hold its output.
    const [code, killedBy] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.once('error', reject).once('exit', (code, killedBy) => resolve([code, killedBy]))
    })
    signal.throwIfAborted()
    if (code === 0) return
    throw failed(program, `${why === '' ? `it ended with ${code ?? killedBy}` : why}${output === '' ? '' : `; it wrote: ${output.trim()}`}`)
  } catch (error) {
    if (error instanceof SpiffeError || signal.aborted) throw error
    throw failed(program, (error as Error).message, error)
  } finally {
    signal.removeEventListener('abort', stop)
    rest.abort()
    for (const stream of streams) stream.destroy()
  }
}

function failed (program: string, why: string, cause?: unknown): SpiffeError {
  return new SpiffeError('reload_failed', `the reload command ${program} failed: ${why}`, { cause })
}
