import { commandTree } from '../../src/cli/command-tree.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { createTestTerminal } from './terminal.ts'

export interface Outcome { readonly code: number, readonly stdout: string, readonly stderr: string }

/** One command line of the real command tree, run in this process. */
export async function runAssay (
  words: readonly string[], options: { input?: string, environment?: Record<string, string> } = {}
): Promise<Outcome> {
  const terminal = createTestTerminal(options)
  const code = await runCli(commandTree, words, terminal)
  return { code, stdout: terminal.stdout, stderr: terminal.stderr }
}
