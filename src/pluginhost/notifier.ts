import type { ExternalProgram } from '../plugins/external-program.ts'
import type { Notifier } from '../plugins/notifier.ts'
import { encodeBundle } from '../wire/bundle-codec.ts'
import { notifierPluginService as service } from '../wire/generated/plugin-notifier.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

/** SPIRE's plugin type `Notifier`. Calls throw `plugin_unavailable` and `plugin_failed`. */
export async function startExternalNotifier (
  name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal
): Promise<Required<Pick<Notifier, 'bundleLoaded' | 'bundleUpdated'>> & Notifier> {
  const plugin = await ExternalPlugin.start({ type: 'Notifier', name, program, service: service.name }, host, signal)
  return {
    name,
    bundleLoaded: async (bundle, signal) => {
      const request = { bundleLoaded: { bundle: encodeBundle(bundle) } }
      await plugin.call((channel, options) => channel.client(service).notifyAndAdvise(request, options), { signal })
    },
    bundleUpdated: async (bundle, signal) => {
      const request = { bundleUpdated: { bundle: encodeBundle(bundle) } }
      await plugin.call((channel, options) => channel.client(service).notify(request, options), { signal })
    },
    [Symbol.asyncDispose]: () => plugin[Symbol.asyncDispose]()
  }
}
