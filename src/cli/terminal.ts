import { text } from 'node:stream/consumers'
import { SpiffeError } from '../spiffe/errors.ts'
import { reasonOf } from '../runtime/reason-of.ts'

/** As what it was called: under SPIRE's names it has SPIRE's commands, files and paths. */
export type Program = 'assay' | 'spire-server' | 'spire-agent'

/** The world as a command sees it; tests hand in their own. */
export interface Terminal {
  readonly program: Program
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

/** What bin/spire-server and bin/spire-agent say; not passed on to programs that are started. */
export function programOf (environment: Record<string, string | undefined>): Program {
  const { ASSAY_PROGRAM: name } = environment
  delete environment['ASSAY_PROGRAM']
  return name === 'spire-server' || name === 'spire-agent' ? name : 'assay'
}

/** Where SPIRE's own clients look for its sockets. */
const spireSockets = {
  SPIRE_SERVER_PRIVATE_SOCKET: '/tmp/spire-server/private/api.sock', SPIRE_AGENT_PUBLIC_SOCKET: '/tmp/spire-agent/public/api.sock'
}

export interface ProcessTerminal extends Terminal {
  /** Once all output has left. @throws {SpiffeError} `file_unusable`: it did not, as on a full disk */
  readonly written: () => Promise<void>
}

/** The process's own streams. The second signal ends the process at once with 130; what cannot be written stops it as the first does. */
export function openTerminal (program: Program = 'assay'): ProcessTerminal {
  let failure: SpiffeError | undefined
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(130)
      stop.abort(new Error(`stopped by ${name}`))
    })
  }
  // By itself Node opens its inspector at the first, to every user of the machine, and ends at the second. Some commands use them.
  for (const name of ['SIGUSR1', 'SIGUSR2'] as const) process.on(name, () => {})
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // Whoever read may have read enough; what is half done may still say that it is no success.
    if (error.code === 'EPIPE') return stop.abort(new Error('nobody reads the output any more'))
    failure ??= new SpiffeError('file_unusable', `the output cannot be written: ${reasonOf(error)}`, { cause: error })
    stop.abort(failure)
  })
  // There is nobody left whom it could be told, and what is under way may be worth its end.
  process.stderr.on('error', () => {})
  return {
    program,
    environment: program === 'assay' ? process.env : { ...spireSockets, ...process.env },
    signal: stop.signal,
    interactive: process.stderr.isTTY,
    out: text => { process.stdout.write(text) },
    err: text => { process.stderr.write(text) },
    readInput: () => text(process.stdin),
    async written () {
      await new Promise<void>(resolve => { process.stdout.write('', () => resolve()) })
      if (failure !== undefined) throw failure
    }
  }
}
