import { text } from 'node:stream/consumers'

/** The world as a command sees it; tests hand in their own. */
export interface Terminal {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Aborts at the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal
  /** Whether people watch standard error: then progress is shown. */
  readonly interactive: boolean
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Everything on standard input. */
  readonly readInput: () => Promise<string>
}

/** The process's own streams. The second signal ends the process at once with 130. */
export function openTerminal (): Terminal {
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(130)
      stop.abort(new Error(`stopped by ${name}`))
    })
  }
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    throw error
  })
  return {
    environment: process.env,
    signal: stop.signal,
    interactive: process.stderr.isTTY,
    out: text => { process.stdout.write(text) },
    err: text => { process.stderr.write(text) },
    readInput: () => text(process.stdin)
  }
}
