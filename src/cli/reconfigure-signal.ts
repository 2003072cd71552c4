import type { Reconfigured } from '../pluginhost/plugin-host.ts'

/** SIGUSR1, as in SPIRE: plugins are given what their `plugin_data_file` says by now. */
export function reconfigureSignal (stop: AbortSignal): Reconfigured {
  const listeners = new Set<() => void>()
  const tell = () => { for (const listener of listeners) listener() }
  process.on('SIGUSR1', tell)
  stop.addEventListener('abort', () => process.off('SIGUSR1', tell), { once: true })
  return (listener, signal) => {
    listeners.add(listener)
    signal.addEventListener('abort', () => listeners.delete(listener), { once: true })
  }
}
