import type { ConfiguredPlugin } from '../plugins/catalog.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import { bundlePublisherPluginService } from '../wire/generated/plugin-bundle-publisher.ts'
import { credentialComposerPluginService } from '../wire/generated/plugin-credential-composer.ts'
import { keyManagerPluginService } from '../wire/generated/plugin-key-manager.ts'
import { notifierPluginService } from '../wire/generated/plugin-notifier.ts'
import { serverNodeAttestorPluginService } from '../wire/generated/plugin-server-node-attestor.ts'
import { upstreamAuthorityPluginService } from '../wire/generated/plugin-upstream-authority.ts'
import { agentStore, identityProvider } from './host-services.ts'
import type { PluginHost } from './plugin-host.ts'
import { pluginMetrics } from './plugin-metrics.ts'
import { PluginSession } from './plugin-session.ts'

const services = new Map(Object.entries({
  KeyManager: keyManagerPluginService, UpstreamAuthority: upstreamAuthorityPluginService, NodeAttestor: serverNodeAttestorPluginService,
  BundlePublisher: bundlePublisherPluginService, CredentialComposer: credentialComposerPluginService, Notifier: notifierPluginService
}).map(([type, { name }]) => [type, name]))

/**
 * Asks each program that is a server's plugin what is wrong with its configuration, as SPIRE's `server validate` does: it is started, asked
 * and ended, and configured with nothing. Its host services are there and know nothing: no server runs.
 * @param configured per plugin type
 * @returns one line per problem, `plugins.<type>.<name>: …`
 */
export async function validatePrograms (
  configured: Readonly<Record<string, unknown>>, host: PluginHost, signal: AbortSignal
): Promise<readonly string[]> {
  const lines: string[] = []
  const notRunning = async () => { throw new SpiffeError('server_initializing', 'no server runs: a configuration is looked at') }
  const untold = { count () {}, gauge () {}, sample () {} }
  const metrics = pluginMetrics(untold, { ...host, isOurs: () => false })
  const hostServices = [agentStore(notRunning), identityProvider(() => undefined), metrics]
  for (const [type, service] of services) {
    for (const { name, program } of configured[type] as readonly ConfiguredPlugin[]) {
      if (program === undefined) continue
      const log = host.log.child({ plugin: name, pluginType: type })
      const tell = (note: string) => { lines.push(`plugins.${type}.${name}: ${note}`) }
      try {
        const notes = await PluginSession.validate({ type, name, program, service }, { ...host, hostServices }, log, signal)
        notes.forEach(tell)
      } catch (error) {
        signal.throwIfAborted()
        if (codeOf(error) === undefined) throw error
        tell((error as Error).message)
      }
    }
  }
  return lines
}
