import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isGroup, type CommandGroup } from '../../../src/cli/command.ts'
import type { FlagFacts } from './go-usage.ts'
import type { Told } from './normalise.ts'

/** What the real programs said, kept so that parity is proved where they are not. */
export interface SpireFacts {
  readonly version: string
  /** By command, e.g. `spire-server entry create`. */
  readonly flags: Readonly<Record<string, FlagFacts>>
  readonly server: readonly Told[]
  readonly agent: readonly Told[]
}

export const factsFile = join(import.meta.dirname, 'spire-1.15.3.json')

export async function readFacts (): Promise<SpireFacts> { return JSON.parse(await readFile(factsFile, 'utf8')) as SpireFacts }

/** spire-surface §5.2, §5.3, but for `wit mint`, which is off by default. */
export const commands: Readonly<Record<'spire-server' | 'spire-agent', readonly string[]>> = {
  'spire-server': [
    'run', 'validate', 'healthcheck', 'debug getinfo', ...['list', 'count', 'show', 'ban', 'evict', 'purge'].map(verb => `agent ${verb}`),
    ...['show', 'list', 'count', 'set', 'delete'].map(verb => `bundle ${verb}`),
    ...['create', 'update', 'show', 'count', 'delete'].map(verb => `entry ${verb}`),
    ...['create', 'update', 'list', 'show', 'delete', 'refresh'].map(verb => `federation ${verb}`), 'jwt mint', 'x509 mint',
    ...['x509', 'jwt'].flatMap(kind => ['show', 'prepare', 'activate', 'taint', 'revoke'].map(verb => `localauthority ${kind} ${verb}`)),
    'upstreamauthority taint', 'upstreamauthority revoke', 'logger get', 'logger set', 'logger reset', 'token generate'
  ],
  'spire-agent': [
    'run', 'validate', 'healthcheck', 'api fetch x509', 'api fetch jwt', 'api validate jwt', 'api watch', 'debug getinfo', 'logger get',
    'logger set', 'logger reset'
  ]
}

/** The words of every command of a tree. */
export function wordsOf (group: CommandGroup, path: readonly string[] = []): string[] {
  return Object.entries(group.commands).flatMap(([word, node]) =>
    isGroup(node) ? wordsOf(node, [...path, word]) : [[...path, word].join(' ')])
}
