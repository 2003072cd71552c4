import { defineCommand, isGroup, type CommandGroup } from './command.ts'
import { commandTree } from './command-tree.ts'
import type { Flag } from './flag.ts'
import { formatBashCompletion, formatFishCompletion, formatZshCompletion } from './completion-script.ts'
import { usage } from './parse-flags.ts'

/** What can follow the words of one path. */
export interface CompletionPoint {
  /** e.g. `entry create`; empty at the root. */
  readonly path: string
  readonly commands: readonly { readonly name: string, readonly summary: string }[]
  readonly flags: Readonly<Record<string, Flag<unknown>>>
  /** Values of the argument, when they are known. */
  readonly argument: readonly string[]
  /** Whether the argument is a path. */
  readonly takesPath: boolean
}

const formats = { bash: formatBashCompletion, zsh: formatZshCompletion, fish: formatFishCompletion }

export const completion = defineCommand({
  flags: {},
  argument: { name: 'bash|zsh|fish', choices: Object.keys(formats) },
  examples: [
    'assay completion bash > /etc/bash_completion.d/assay',
    'assay completion zsh > "${fpath[1]}/_assay"',
    'assay completion fish > ~/.config/fish/completions/assay.fish'
  ],
  async run ({ argument, terminal }) {
    if (!Object.hasOwn(formats, argument)) throw usage(`no completion for ${JSON.stringify(argument)}; there is bash, zsh and fish`)
    terminal.out(formats[argument as keyof typeof formats](await completionPoints(commandTree)))
    return 0
  }
})

/** Every path of a tree. */
export async function completionPoints (group: CommandGroup, path: readonly string[] = []): Promise<CompletionPoint[]> {
  const commands = Object.entries(group.commands).map(([name, { summary }]) => ({ name, summary }))
  const points: CompletionPoint[] = [{ path: path.join(' '), commands, flags: {}, argument: [], takesPath: false }]
  for (const [name, node] of Object.entries(group.commands)) {
    if (isGroup(node)) {
      points.push(...await completionPoints(node, [...path, name]))
      continue
    }
    const { flags, argument } = await node.load()
    const takesPath = argument !== undefined && argument.choices === undefined
    points.push({ path: [...path, name].join(' '), commands: [], flags, argument: argument?.choices ?? [], takesPath })
  }
  return points
}
