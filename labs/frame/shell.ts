import { spawn } from 'node:child_process'
import { once } from 'node:events'

export interface ShellOutcome {
  /** Of bash: that of the last command, or of the last that failed in a pipe. */
  readonly status: number
  /** Both streams as they came. */
  readonly output: string
}

/** Words that make bash run a line in a folder, with nothing of Assay's in its environment but what is given. */
export function shellWords (line: string, folder: string, variables: ReadonlyMap<string, string>): string[] {
  const foreign = 'unset ${!ASSAY_*} ${!SPIFFE_*} ${!SPIRE_*} http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy'
  const exports = [...variables].map(([name, value]) => `export ${name}=${quote(value)}`)
  return ['bash', '-c', [`cd ${quote(folder)}`, foreign, ...exports, 'set -o pipefail', line].join('\n')]
}

/** For a shell's eyes. */
export function quote (text: string): string { return `'${text.replaceAll("'", "'\\''")}'` }

/** Runs to the end; what is under way when the signal aborts or the time is over is killed with all that it started. */
export async function runShell (words: readonly string[], { signal, timeoutMs }: {
  readonly signal: AbortSignal, readonly timeoutMs: number
}): Promise<ShellOutcome> {
  signal.throwIfAborted()
  const [program = '', ...rest] = words
  // A process group of its own: the terminal's Ctrl-C reaches the lab alone, which then cleans up.
  const child = spawn(program, rest, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { output += text })
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  limit.addEventListener('abort', kill, { once: true })
  try {
    const [code] = await once(child, 'close') as [number | null]
    signal.throwIfAborted()
    if (limit.aborted) throw new Error(`it did not end within ${timeoutMs / 1_000} s; so far it wrote:\n${output}`)
    return { status: code ?? 1, output }
  } finally {
    limit.removeEventListener('abort', kill)
  }
}
