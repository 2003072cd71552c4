import { trustDomainService } from '../../wire/generated/server-trust-domain.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { trustDomainFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatFederation } from './format-federation.ts'

export const federationShow = defineCommand({
  flags: { trustDomain: trustDomainFlag('the trust domain that is federated with'), ...serverFlags, output: outputFlag },
  examples: ['assay federation show -trustDomain partner.test', 'assay federation show -trustDomain spiffe://partner.test --output json'],
  async run (call) {
    const { flags, terminal } = call
    const { trustDomain } = flags
    if (trustDomain === undefined) throw usage('a trust domain is required: -trustDomain')
    const relationship = await withServer(call, channel =>
      channel.client(trustDomainService).getFederationRelationship({ trustDomain }, { signal: terminal.signal }))
    terminal.out(flags.output === 'json'
      ? `${formatJson(relationship)}\n`
      : `Found a federation relationship with trust domain ${trustDomain}:\n${formatFederation(relationship)}`)
    return 0
  }
})
