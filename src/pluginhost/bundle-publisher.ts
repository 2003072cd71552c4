import type { ExternalProgram } from '../plugins/external-program.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { encodeBundle } from '../wire/bundle-codec.ts'
import { bundlePublisherPluginService as service } from '../wire/generated/plugin-bundle-publisher.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

/** SPIRE's plugin type `BundlePublisher`: one place, which the server tells whenever the bundle has changed. */
export async function startExternalBundlePublisher (name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal) {
  const plugin = await ExternalPlugin.start({ type: 'BundlePublisher', name, program, service: service.name }, host, signal)
  const place = {
    name: `the plugin ${name}`,
    publish: async ({ bundle }: { readonly bundle: Bundle }, signal: AbortSignal) => {
      await plugin.call((channel, options) => channel.client(service).publishBundle({ bundle: encodeBundle(bundle) }, options), { signal })
    }
  }
  return { places: [place], [Symbol.asyncDispose]: () => plugin[Symbol.asyncDispose]() }
}
