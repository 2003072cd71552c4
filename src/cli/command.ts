import type { Flags, FlagValues } from './flag.ts'
import type { Terminal } from './terminal.ts'

/**
 * 0 done; 1 refused or failed; 2 unusable input: wrong usage, unreadable files; 3 done, but in the time given not every agent that must
 * have it said so; 4 not done, since live agents would break.
 */
export type ExitCode = 0 | 1 | 2 | 3 | 4

export interface Call<F extends Flags> {
  readonly flags: FlagValues<F>
  /** The argument that is no flag; always there when the command names one that is not optional. */
  readonly argument: string
  /** All arguments that are no flags; more than one where the command takes many. */
  readonly arguments: readonly string[]
  readonly terminal: Terminal
}

export interface Command<F extends Flags = Flags> {
  readonly flags: F
  /** The one argument that is no flag, e.g. `FILE`; or the first of `many`, e.g. `FILE...`. */
  readonly argument?: { readonly name: string, readonly optional?: boolean, readonly many?: boolean, readonly choices?: readonly string[] }
  /** What the summary leaves unsaid; whole sentences. */
  readonly details?: string
  /** At least one; each begins with `assay`. */
  readonly examples: readonly string[]
  run (call: Call<F>): Promise<ExitCode>
}

/** Infers the types of the flags for `run`. */
export function defineCommand<const F extends Flags> (command: Command<F>): Command {
  return command
}

/** Loaded only when called, so that each command pays for its own imports alone. */
export interface CommandLeaf {
  readonly summary: string
  readonly load: () => Promise<Command>
}

export interface CommandGroup {
  readonly summary: string
  /** The command that runs when flags or nothing follow the group's name. */
  readonly byDefault?: string
  readonly commands: Readonly<Record<string, CommandNode>>
}

export type CommandNode = CommandLeaf | CommandGroup

export function isGroup (node: CommandNode): node is CommandGroup {
  return 'commands' in node
}
