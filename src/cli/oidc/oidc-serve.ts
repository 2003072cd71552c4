import { systemClock } from '../../runtime/clock.ts'
import { defineCommand } from '../command.ts'
import { openLog } from '../open-log.ts'
import { oidcConfigFlags, readOidcConfig } from './oidc-config-flags.ts'

export const oidcServe = defineCommand({
  flags: oidcConfigFlags,
  details: 'Serves /.well-known/openid-configuration and /keys, and nothing else: whoever speaks OpenID Connect can check JWT-SVIDs.\n' +
    'Keys are read from a server\'s admin socket or from an agent. The keys of the file are SPIRE\'s; see docs/oidc.md.',
  examples: [
    'assay oidc serve -config oidc-discovery-provider.conf',
    'assay oidc serve -domain oidc.example.org -certFile tls.pem -keyFile tls.key -serverAddress unix:///tmp/assay-server/private/api.sock',
    'assay oidc serve -domain oidc.example.org -listenSocketPath /run/assay/oidc.sock ' +
      '-workloadSocketPath /tmp/assay-agent/public/api.sock -trustDomain example.org'
  ],
  async run ({ flags, terminal }) {
    const config = await readOidcConfig(flags, terminal)
    const log = openLog(config, terminal.signal)
    const { runProvider } = await import('../../oidc/provider.ts')
    const { openKeySource } = await import('../../oidc/open-key-source.ts')
    const { createMetrics } = await import('../../runtime/metrics.ts')
    const metrics = config.prometheus === undefined ? undefined : createMetrics({ prefix: 'assay_oidc' })
    const clock = systemClock
    await runProvider(config, { source: openKeySource(config.source, clock), clock, log, metrics }, terminal.signal)
    return 0
  }
})
