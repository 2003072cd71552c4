import { type CommandGroup, type CommandNode, isGroup } from '../command.ts'
import { commandTree } from '../command-tree.ts'
import type { Program } from '../terminal.ts'

/**
 * The commands of `spire-server` and `spire-agent` (spire-surface §5.2, §5.3), which are Assay's own under SPIRE's names. Groups that SPIRE
 * has not are not there: whoever wants these calls `assay`.
 */
export function treeOf (program: Program): CommandGroup {
  if (program === 'assay') return commandTree
  const { summary, words } = programs[program]
  return { summary, commands: Object.fromEntries(Object.entries(words).map(([word, path]) => [word, nodeAt(path)])) }
}

const serverGroups = ['bundle', 'entry', 'federation', 'jwt', 'localauthority', 'token', 'upstreamauthority', 'x509'] as const
const agentVerbs = ['list', 'show', 'count', 'ban', 'evict', 'purge']
const ofServer = ['run', 'validate', 'healthcheck', 'logger', 'debug'] as const

const programs = {
  'spire-server': {
    summary: 'Assay\'s server under SPIRE\'s name: its commands, flags, files and paths.',
    words: {
      ...Object.fromEntries(ofServer.map(word => [word, ['server', word]])),
      agent: ['agent'],
      ...Object.fromEntries(serverGroups.map(word => [word, [word]]))
    } as Record<string, string[]>
  },
  'spire-agent': {
    summary: 'Assay\'s agent under SPIRE\'s name: its commands, flags, files and paths.',
    words: { ...Object.fromEntries(ofServer.map(word => [word, ['agent', word]])), api: ['api'] } as Record<string, string[]>
  }
} as const

function nodeAt (path: readonly string[]): CommandNode {
  const node = path.reduce<CommandNode>((group, word) => (isGroup(group) ? group.commands[word] : undefined) ?? missing(path), commandTree)
  // SPIRE's server runs no agent.
  return path.join(' ') === 'agent' && isGroup(node) ? { ...node, commands: pick(node.commands, agentVerbs) } : node
}

function pick (commands: CommandGroup['commands'], words: readonly string[]): CommandGroup['commands'] {
  return Object.fromEntries(words.map(word => [word, commands[word] ?? missing([word])]))
}

function missing (path: readonly string[]): never { throw new Error(`no command ${path.join(' ')}`) }
