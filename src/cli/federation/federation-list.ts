import { trustDomainService } from '../../wire/generated/server-trust-domain.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { allPages, pageSize } from '../paged.ts'
import { counted } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatFederation } from './format-federation.ts'

export const federationList = defineCommand({
  flags: { ...serverFlags, output: outputFlag },
  details: 'Relationships of the server\'s configuration file are not among them.',
  examples: ['assay federation list', 'assay federation list --output json'],
  async run (call) {
    const { flags, terminal } = call
    const { signal } = terminal
    // Bundles are many times as large as all the rest, and not shown.
    const outputMask = flags.output === 'json' ? undefined : { bundleEndpointUrl: true, bundleEndpointProfile: true }
    const relationships = await withServer(call, channel => allPages(terminal, 'federation relationships', async pageToken => {
      const { federationRelationships: items, nextPageToken } = await channel.client(trustDomainService)
        .listFederationRelationships({ outputMask, pageSize: outputMask === undefined ? bundlesPerPage : pageSize, pageToken }, { signal })
      return { items, nextPageToken }
    }))
    if (flags.output === 'json') {
      terminal.out(`${formatJson({ federationRelationships: relationships, nextPageToken: '' })}\n`)
    } else {
      terminal.out(`Found ${counted(relationships.length, 'federation relationship', 'federation relationships')}\n`)
      for (const relationship of relationships) terminal.out(formatFederation(relationship))
    }
    return 0
  }
})

/** Each message stays below the server's limit. */
const bundlesPerPage = 50
