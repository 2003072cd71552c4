import { runCli } from '../../src/cli/run-cli.ts'
import { treeOf } from '../../src/cli/spire/spire-trees.ts'
import type { Program } from '../../src/cli/terminal.ts'
import { createTestTerminal } from './terminal.ts'

export interface Outcome { readonly code: number, readonly stdout: string, readonly stderr: string }

/** One command line of the real command tree, run in this process; under SPIRE's names, one of theirs. */
export async function runAssay (
  words: readonly string[], options: { input?: string, environment?: Record<string, string>, program?: Program } = {}
): Promise<Outcome> {
  const terminal = createTestTerminal(options)
  const code = await runCli(treeOf(terminal.program), words, terminal)
  return { code, stdout: terminal.stdout, stderr: terminal.stderr }
}
