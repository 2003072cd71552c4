import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'
import { codeOf } from '../spiffe/errors.ts'
import type { PluginEntry } from './chain.ts'
import { installProgram, type Places, type Program, removeProgram } from './installed-program.ts'
import { chainPlugin, unchainPlugin } from './network-file.ts'

export interface PluginPlaces extends Places {
  /** Where the runtime finds the cluster's network. */
  readonly configFolder: string
}

export interface KeptPlugin extends PluginPlaces {
  /** The network's name; the first unless given. */
  readonly network: string | undefined
  readonly entry: PluginEntry
}

export interface KeepPluginDeps {
  readonly program: Program
  /** Whether the plugin is to stay when this process ends. */
  readonly isWanted: (signal: AbortSignal) => Promise<boolean>
  readonly clock: Clock
  readonly log: Logger
}

/** Networks' own programs write their lists anew, when they are upgraded and whenever they like. */
const lookEveryMs = 1_000
/** A kubelet gives 30 s for an end. */
const wantedWithinMs = 15_000

/**
 * Puts the plugin in place and keeps it there until the signal aborts; then takes it out, if it is not wanted any more: without its agent
 * no pod of the mesh would start.
 * @throws {SpiffeError} `file_unusable`
 */
export async function keepPlugin (plugin: KeptPlugin, deps: KeepPluginDeps, signal: AbortSignal): Promise<void> {
  const { program, isWanted, clock, log } = deps
  const folder = await installProgram(program, plugin)
  log.info({ folder, bin: plugin.binFolder }, 'the plugin is among the runtime\'s')
  let said: string | undefined
  while (!signal.aborted) {
    try {
      const file = await chainPlugin(plugin.configFolder, plugin.network, plugin.entry)
      if (file !== undefined) log.info({ file }, 'the plugin is the last of its network')
      said = undefined
    } catch (error) {
      const code = codeOf(error)
      if (code === undefined) throw error
      const { message } = error as Error
      if (message !== said) log.warn({ code, reason: message }, 'the plugin is not in the network yet; trying again')
      said = message
    }
    try {
      await clock.sleep(lookEveryMs, signal)
    } catch (error) {
      if (!isStop(error, signal)) throw error
    }
  }
  if (await isWanted(AbortSignal.timeout(wantedWithinMs))) {
    log.info({}, 'the plugin stays in place')
    return
  }
  await removePlugin(plugin, log)
}

/** From the network first: what it names must be there. @throws {SpiffeError} `file_unusable` */
export async function removePlugin (plugin: PluginPlaces, log: Logger): Promise<void> {
  const files = await unchainPlugin(plugin.configFolder)
  await removeProgram(plugin)
  log.info({ files }, 'the plugin has been taken out')
}
