import { commandTree } from '../../src/cli/command-tree.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { createTestTerminal } from '../fakes/terminal.ts'

/** `assay takeover run` in this process, until it is stopped or disposed of. */
export function startTakeoverRun (words: readonly string[]) {
  const terminal = createTestTerminal()
  const ended = runCli(commandTree, ['takeover', 'run', ...words], terminal)
  const stop = async () => {
    terminal.stop()
    return await ended
  }
  return { stop, get log () { return terminal.stderr }, async [Symbol.asyncDispose] () { await stop() } }
}
