import type { ExternalProgram } from '../plugins/external-program.ts'
import type { SvidStore } from '../plugins/svid-store.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { svidStorePluginService as service } from '../wire/generated/plugin-svid-store.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

/** SPIRE's plugin type `SVIDStore`. Calls throw `plugin_unavailable` and `plugin_failed`. */
export async function startExternalSvidStore (
  name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal
): Promise<SvidStore> {
  const plugin = await ExternalPlugin.start({ type: 'SVIDStore', name, program, service: service.name }, host, signal)
  return {
    name,
    putX509Svid: async ({ metadata, svid: { id, chain, privateKey, notAfter }, bundle, federatedBundles }, signal) => {
      const svid = { spiffeID: id, certChain: chain, privateKey, bundle, expiresAt: Math.floor(notAfter.getTime() / 1000) }
      // Of each trust domain all certificates, one after the other.
      const others = new Map([...federatedBundles].map(([domain, certificates]) => [domain as string, Buffer.concat(certificates)]))
      const request = { svid, metadata, federatedBundles: others }
      await plugin.call((channel, options) => channel.client(service).putX509SVID(request, options), { signal })
    },
    deleteX509Svid: async (metadata, signal) => {
      try {
        await plugin.call((channel, options) => channel.client(service).deleteX509SVID({ metadata }, options), { signal })
      } catch (error) {
        const { cause } = error as Error
        if (!(cause instanceof RpcError) || cause.status !== 'INVALID_ARGUMENT') throw error
        throw new SpiffeError('argument_invalid', `the plugin ${name}: ${cause.message}`, { cause: error })
      }
    },
    [Symbol.asyncDispose]: () => plugin[Symbol.asyncDispose]()
  }
}
