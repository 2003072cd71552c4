import { isGroup, type Command, type CommandGroup } from './command.ts'
import type { Flag } from './flag.ts'

/** @param path the words that lead here, e.g. `['assay', 'entry']` */
export function formatGroupHelp (path: readonly string[], group: CommandGroup): string {
  const rows = Object.entries(group.commands).map(([name, node]) =>
    [isGroup(node) ? `${name} ${Object.keys(node.commands).join('|')}` : name, node.summary] as const)
  const first = exampleWords(group)
  return [
    (group.summary),
    '',
    `Usage: ${path.join(' ')} COMMAND [flags]`,
    '',
    'Commands:',
    ...table(rows),
    ...group.byDefault === undefined ? [] : ['', `Without COMMAND: ${[...path, group.byDefault].join(' ')}`],
    '',
    'Examples:',
    `  ${[...path, ...first].join(' ')} --help`,
    ''
  ].join('\n')
}

/** @param path the words that call the command */
export function formatCommandHelp (path: readonly string[], summary: string, command: Command): string {
  const { argument, flags, details, examples } = command
  const shown = argument === undefined ? '' : argument.optional === true ? ` [${argument.name}]` : ` ${argument.name}`
  return [
    summary,
    ...details === undefined ? [] : ['', details],
    '',
    `Usage: ${path.join(' ')}${shown}${Object.keys(flags).length > 0 ? ' [flags]' : ''}`,
    ...Object.keys(flags).length > 0 ? ['', 'Flags:', ...table(Object.entries(flags).map(([name, flag]) => flagRow(name, flag)))] : [],
    '',
    'Examples:',
    ...examples.map(example => `  ${example}`),
    ''
  ].join('\n')
}

function flagRow (name: string, flag: Flag<unknown>): [string, string] {
  const { help, placeholder, repeats, defaultText } = flag
  const extra = [...repeats === true ? ['may be repeated'] : [], ...defaultText === undefined ? [] : [`default ${defaultText}`]]
  return [placeholder === undefined ? `-${name}` : `-${name} ${placeholder}`, extra.length > 0 ? `${help} (${extra.join('; ')})` : help]
}

/** Two columns; a left cell too wide for its column gets a line of its own. */
function table (rows: readonly (readonly [string, string])[]): string[] {
  const widest = Math.min(34, Math.max(...rows.map(([left]) => left.length)))
  return rows.flatMap(([left, right]) => left.length > widest
    ? [`  ${left}`, `  ${' '.repeat(widest)}  ${right}`]
    : [`  ${left.padEnd(widest)}  ${right}`])
}

function exampleWords (group: CommandGroup): string[] {
  const [name, node] = Object.entries(group.commands)[0] ?? []
  return name === undefined || node === undefined ? [] : isGroup(node) ? [name, ...exampleWords(node)] : [name]
}
