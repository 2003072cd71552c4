import { bundleService } from '../../wire/generated/server-bundle.ts'
import { decodeBundle } from '../../wire/bundle-codec.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { trustDomainFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { allPages, pageSize } from '../paged.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { bundleFormatFlag, formatBundle } from './bundle-format.ts'

const rule = '*'.repeat(40)

export const bundleList = defineCommand({
  flags: { id: trustDomainFlag('only this trust domain\'s bundle'), format: bundleFormatFlag, ...serverFlags, output: outputFlag },
  examples: ['assay bundle list', 'assay bundle list -id spiffe://partner.test -format spiffe'],
  async run (call) {
    const { flags, terminal } = call
    const { signal } = terminal
    const { id: trustDomain } = flags
    const bundles = await withServer(call, async channel => {
      const client = channel.client(bundleService)
      if (trustDomain !== undefined) return [await client.getFederatedBundle({ trustDomain }, { signal })]
      return allPages(terminal, 'bundles', async pageToken => {
        const { bundles: items, nextPageToken } = await client.listFederatedBundles({ pageSize, pageToken }, { signal })
        return { items, nextPageToken }
      })
    })
    if (flags.output === 'json') {
      terminal.out(`${formatJson(trustDomain === undefined ? { bundles, nextPageToken: '' } : bundles[0])}\n`)
    } else if (trustDomain !== undefined) {
      for (const bundle of bundles) terminal.out(formatBundle(decodeBundle(bundle), flags.format))
    } else {
      terminal.out(bundles.map(bundle => {
        const decoded = decodeBundle(bundle)
        return `${rule}\n* ${decoded.trustDomain}\n${rule}\n${formatBundle(decoded, flags.format)}`
      }).join('\n'))
    }
    return 0
  }
})
