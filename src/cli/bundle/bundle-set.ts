import { bundleService } from '../../wire/generated/server-bundle.ts'
import { encodeBundle } from '../../wire/bundle-codec.ts'
import { refuseFailedItem } from '../batch-item.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, trustDomainFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { readBundleText } from '../read-bundle.ts'
import { readInputText } from '../read-input.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { bundleFormatFlag } from './bundle-format.ts'

export const bundleSet = defineCommand({
  flags: {
    id: trustDomainFlag('the trust domain that the bundle belongs to'),
    path: pathFlag('the bundle', { defaultText: 'standard input' }),
    format: bundleFormatFlag,
    ...serverFlags,
    output: outputFlag
  },
  examples: [
    'assay bundle set -id spiffe://partner.test -path partner.pem',
    'curl -fsS https://partner.test/bundle | assay bundle set -id partner.test -format spiffe'
  ],
  async run (call) {
    const { flags, terminal } = call
    if (flags.id === undefined) throw usage('a trust domain is required: -id')
    const name = flags.path ?? 'standard input'
    const bundle = readBundleText(await readInputText(flags.path, terminal), { name, format: flags.format, trustDomain: flags.id })
    const { results } = await withServer(call, channel =>
      channel.client(bundleService).batchSetFederatedBundle({ bundle: [encodeBundle(bundle)] }, { signal: terminal.signal }))
    if (flags.output === 'json') terminal.out(`${formatJson({ results })}\n`)
    refuseFailedItem(results[0]?.status)
    if (flags.output === 'pretty') terminal.out('bundle set.\n')
    return 0
  }
})
