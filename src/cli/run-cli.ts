import { readFile } from 'node:fs/promises'
import { isGroup, type CommandGroup, type ExitCode } from './command.ts'
import { findCommand, orDefault, unknownCommand } from './find-command.ts'
import { formatCommandHelp, formatGroupHelp } from './help.ts'
import { asksForHelp, parseFlags, usage } from './parse-flags.ts'
import { tellFailure } from './refusal.ts'
import type { Program, Terminal } from './terminal.ts'

/**
 * Runs one command line to its end.
 * @param words without node and the script
 * @param written settles once the output has left; what it throws is told, and no success
 */
export async function runCli (
  root: CommandGroup, words: readonly string[], terminal: Terminal, written = async () => {}
): Promise<ExitCode | 127 | 130> {
  const done = await runWords(root, words, terminal)
  const code = await written().then(() => done, (error: unknown) => tellFailure(terminal, error, formOf(words), [terminal.program]))
  return terminal.program === 'assay' ? code : spireExitCode(code, Object.hasOwn(root.commands, words[0] ?? ''))
}

/** SPIRE's programs know 0 and 1 (spire-surface §5.1), and 127 where the first word is no command of theirs. */
function spireExitCode (code: ExitCode | 130, isCommand: boolean): ExitCode | 127 | 130 {
  if (code === 0 || code === 130) return code
  return isCommand ? 1 : 127
}

async function runWords (root: CommandGroup, words: readonly string[], terminal: Terminal): Promise<ExitCode | 130> {
  const { program } = terminal
  let path: readonly string[] = [program]
  try {
    if (/^--?version$/.test(words[0] ?? '')) {
      terminal.out(program === 'assay' ? `assay ${await readVersion()}\n` : `${await readVersion()}\n`)
      return 0
    }
    const [asked, plain] = words[0] === 'help' ? [true, words.slice(1)] : [asksForHelp(words), words]
    const named = findCommand(root, plain, program)
    const found = asked ? named : orDefault(named)
    path = found.path
    if (isGroup(found.node)) {
      const [word] = found.rest
      if (word !== undefined && !word.startsWith('-')) throw unknownCommand(path, word, found.node)
      if (word !== undefined && !asked) throw usage(`${path.join(' ')} needs a command before ${word}`)
      const help = formatGroupHelp(path, found.node)
      if (asked) terminal.out(help)
      else terminal.err(help)
      return asked ? 0 : 2
    }
    const command = await found.node.load()
    if (asked) {
      const examples = command.examples.map(example => underName(example, program))
      terminal.out(formatCommandHelp(path, found.node.summary, { ...command, examples }))
      return 0
    }
    const { values, argument = '', arguments: all } = parseFlags(command, found.rest)
    return await command.run({ flags: values, argument, arguments: all, terminal })
  } catch (error) {
    if (terminal.signal.aborted) return 130
    return tellFailure(terminal, error, formOf(words), path)
  }
}

/** Commands of the server and the agent have one word less where these are programs of their own. */
function underName (example: string, program: Program): string {
  if (program === 'assay') return example
  return example.replace(program === 'spire-server' ? /^assay (?:server )?/ : /^assay (?:agent )?/, `${program} `)
}

/** Read from the words themselves, so that wrong usage too is told in the form asked for. */
function formOf (words: readonly string[]): 'pretty' | 'json' {
  const isJson = words.some((word, index) => /^--?output=json$/.test(word) || (/^--?output$/.test(word) && words[index + 1] === 'json'))
  return isJson ? 'json' : 'pretty'
}

async function readVersion (): Promise<string> {
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  return version
}
