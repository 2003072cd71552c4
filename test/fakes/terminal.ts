import type { Program, Terminal } from '../../src/cli/terminal.ts'

export interface TestTerminal extends Terminal {
  readonly stdout: string
  readonly stderr: string
  stop (): void
}

export interface TestTerminalOptions {
  /** What standard input holds. */
  readonly input?: string
  readonly environment?: Record<string, string>
  /** As if somebody watched standard error. */
  readonly interactive?: boolean
  readonly program?: Program
}

/** Collects what a command says. */
export function createTestTerminal (
  { input = '', environment = {}, interactive = false, program = 'assay' }: TestTerminalOptions = {}
): TestTerminal {
  const stop = new AbortController()
  let stdout = ''
  let stderr = ''
  return {
    program,
    environment,
    signal: stop.signal,
    interactive,
    out: text => { stdout += text },
    err: text => { stderr += text },
    readInput: async () => input,
    get stdout () { return stdout },
    get stderr () { return stderr },
    stop: () => stop.abort(new Error('stopped'))
  }
}
