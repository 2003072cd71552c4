import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { SpiffeError } from '../spiffe/errors.ts'
import type { OpenNamespace } from './namespace.ts'

/** Longer than `iptables -w` waits for whoever else changes rules. */
const patienceMs = 20_000

export interface ToolCall {
  readonly words: readonly [string, ...string[]]
  /** For its standard input. */
  readonly input?: string
  readonly namespace: OpenNamespace | undefined
}

export interface ToolResult { readonly ok: boolean, readonly stdout: string, readonly stderr: string }

/**
 * @returns `undefined` when there is no such program
 * @throws {SpiffeError} `redirect_failed`, `redirect_unavailable`. When the signal aborts, its reason.
 */
export async function runTool ({ words, input = '', namespace }: ToolCall, signal: AbortSignal): Promise<ToolResult | undefined> {
  signal.throwIfAborted()
  const [program, ...rest] = namespace === undefined ? words : ['nsenter', '--net=/proc/self/fd/3', ...words] as [string, ...string[]]
  const child = spawn(program, rest, {
    stdio: ['pipe', 'pipe', 'pipe', ...namespace === undefined ? [] : [namespace.fd]],
    // Administrators' programs are not on everybody's path.
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`, LC_ALL: 'C' },
    timeout: patienceMs,
    signal
  }) as ChildProcessWithoutNullStreams
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  // A program that does not read all of it says why on its own.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  try {
    const [status, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)])
    if (status === null) throw new SpiffeError('redirect_failed', `${words.join(' ')} did not end within ${patienceMs / 1_000} s`)
    const isAbsent = status === 127 && namespace !== undefined && /No such file or directory/.test(stderr)
    return isAbsent ? undefined : { ok: status === 0, stdout, stderr }
  } catch (error) {
    signal.throwIfAborted()
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    if (namespace === undefined) return undefined
    throw new SpiffeError('redirect_unavailable', 'nsenter is not installed', { cause: error })
  }
}

/** What to say of a tool that failed. */
export function toolFailure ({ words, namespace }: ToolCall, { stderr }: ToolResult): SpiffeError {
  const said = stderr.trim().split('\n')[0] ?? ''
  if (/operation not permitted|permission denied|must be root/i.test(stderr)) {
    const rights = namespace === undefined ? 'CAP_NET_ADMIN' : 'CAP_NET_ADMIN and CAP_SYS_ADMIN'
    return new SpiffeError('redirect_unavailable', `${words[0]} may not: ${said} (needs root, or ${rights})`)
  }
  return new SpiffeError('redirect_failed', `${words[0]} refused: ${said}`)
}
