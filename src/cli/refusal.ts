import { errorCatalogue, SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import type { ExitCode } from './command.ts'
import { formatJson } from './json-output.ts'
import type { Terminal } from './terminal.ts'

/** What went wrong, as told to people and to programs. */
export interface Refusal {
  readonly code: string
  readonly message: string
  readonly retry: boolean
  readonly next: string
  readonly requirement?: string | undefined
  readonly details?: Readonly<Record<string, unknown>> | undefined
}

/** Input that the user must correct before anything can be tried. */
const unusableInput: ReadonlySet<string> = new Set<ErrorCode>([
  'usage_invalid', 'file_unusable', 'config_invalid', 'endpoint_malformed', 'backup_malformed', 'policy_malformed', 'policy_unsupported'
])
const notEverywhere: ReadonlySet<string> = new Set<ErrorCode>(['not_converged', 'servers_below', 'takeover_not_settled'])
const breaksSomebody: ReadonlySet<string> = new Set<ErrorCode>([
  'authority_relied_on', 'takeover_blocked', 'takeover_agents_left', 'takeover_agents_moved'
])
const transientStatuses: ReadonlySet<string> = new Set(['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'ABORTED'])

/** Tells a failure on standard error and gives the exit code for it. Anything that is not a refusal is a bug and shows its stack. */
export function tellFailure (terminal: Terminal, error: unknown, format: 'pretty' | 'json', path: readonly string[]): ExitCode {
  const refusal = refusalOf(error, path)
  if (refusal === undefined) {
    const stack = error instanceof Error ? error.stack ?? error.message : String(error)
    terminal.err(format === 'json'
      ? `${formatJson({ error: { code: 'internal', message: error instanceof Error ? error.message : String(error), retry: false } })}\n`
      : `Error: this is a bug in assay; please report it with these lines\n${stack}\n`)
    return 1
  }
  terminal.err(format === 'json' ? `${formatJson({ error: refusal })}\n` : formatRefusal(refusal))
  return exitCodeOf(refusal.code)
}

function exitCodeOf (code: string): ExitCode {
  if (unusableInput.has(code)) return 2
  if (notEverywhere.has(code)) return 3
  return breaksSomebody.has(code) ? 4 : 1
}

/** `undefined` for what is no refusal. Answers of foreign servers without our codes are known by their status. */
export function refusalOf (error: unknown, path: readonly string[] = ['assay']): Refusal | undefined {
  if (error instanceof SpiffeError) {
    const { code, message, requirement, details, row } = error
    return { code, message, retry: row.retry, next: code === 'usage_invalid' ? `${path.join(' ')} --help` : row.next, requirement, details }
  }
  if (!isStatusError(error)) return undefined
  const { status, code, message } = error
  if (code !== undefined && Object.hasOwn(errorCatalogue, code)) {
    const { retry, next } = errorCatalogue[code as ErrorCode]
    return { code, message, retry, next }
  }
  const retry = transientStatuses.has(status)
  return { code: status.toLowerCase(), message, retry, next: retry ? 'try again in a moment' : "see the server's log for the reason" }
}

export function formatRefusal ({ code, message, retry, next, requirement }: Refusal): string {
  return [
    `Error: ${message}`,
    `  code: ${code}${requirement === undefined ? '' : ` (${requirement})`}; ${retry ? 'a retry may help' : 'a retry does not help'}`,
    `  next: ${next}`,
    ''
  ].join('\n')
}

interface StatusError extends Error { readonly status: string, readonly code?: string | undefined }

function isStatusError (error: unknown): error is StatusError {
  return error instanceof Error && error.name === 'RpcError' && 'status' in error && typeof error.status === 'string'
}
