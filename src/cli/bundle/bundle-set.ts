import { bundleService } from '../../wire/generated/server-bundle.ts'
import { encodeBundle } from '../../wire/bundle-codec.ts'
import { refuseFailedItem, statusesSuffice } from '../batch-item.ts'
import { defineCommand } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { pathFlag, trustDomainFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { readBundleText } from '../read-bundle.ts'
import { readInputText } from '../read-input.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { bundleFormatFlag } from './bundle-format.ts'

export const bundleSet = defineCommand({
  flags: {
    id: trustDomainFlag('the trust domain that the bundle belongs to'),
    path: pathFlag('the bundle', { defaultText: 'standard input' }),
    format: bundleFormatFlag,
    ...waitFlags,
    ...replicaFlags,
    output: outputFlag
  },
  examples: [
    'assay bundle set -id spiffe://partner.test -path partner.pem --wait',
    'curl -fsS https://partner.test/bundle | assay bundle set -id partner.test -format spiffe'
  ],
  async run (call) {
    const { flags, terminal } = call
    if (flags.id === undefined) throw usage('a trust domain is required: -id')
    const name = flags.path ?? 'standard input'
    const bundle = readBundleText(await readInputText(flags.path, terminal), { name, format: flags.format, trustDomain: flags.id })
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const { results } = await servers.change(channel =>
        channel.client(bundleService).batchSetFederatedBundle({ bundle: [encodeBundle(bundle)] }, { signal: terminal.signal }))
      const done = (results[0]?.status?.code ?? 0) === 0
      const pretty = () => { if (done) terminal.out('bundle set.\n') }
      const code = await tellChange(call, { json: { results }, pretty }, wait, done ? { entryIds: [] } : undefined)
      if (statusesSuffice(call)) return code
      refuseFailedItem(results[0]?.status)
      return code
    })
  }
})
