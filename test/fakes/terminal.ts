import type { Terminal } from '../../src/cli/terminal.ts'

export interface TestTerminal extends Terminal {
  readonly stdout: string
  readonly stderr: string
  stop (): void
}

/** Collects what a command says. @param input what standard input holds */
export function createTestTerminal (
  { input = '', environment = {} }: { input?: string, environment?: Record<string, string> } = {}
): TestTerminal {
  const stop = new AbortController()
  let stdout = ''
  let stderr = ''
  return {
    environment,
    signal: stop.signal,
    interactive: false,
    out: text => { stdout += text },
    err: text => { stderr += text },
    readInput: async () => input,
    get stdout () { return stdout },
    get stderr () { return stderr },
    stop: () => stop.abort(new Error('stopped'))
  }
}
