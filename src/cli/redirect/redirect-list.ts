import { listRedirects } from '../../redirect/redirect.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { formatTable } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { scopeFlags } from './redirect-flags.ts'

export const redirectList = defineCommand({
  flags: { netns: scopeFlags.netns, output: outputFlag },
  details: 'Without -netns, what is redirected for users and control groups of this host. REDIRECTED and INBOUND count connections\n' +
    'since the rules were written, REFUSED the packets that tried to reach the proxy without having been redirected.',
  examples: ['assay redirect list', 'assay redirect list -netns /run/netns/blue', 'assay redirect list --output json'],
  async run ({ flags, terminal }) {
    const redirections = await listRedirects(flags.netns, terminal.signal)
    if (flags.output === 'json') terminal.out(`${formatJson(redirections)}\n`)
    else if (redirections.length === 0) terminal.out('nothing is redirected\n')
    else {
      terminal.out(formatTable(['SCOPE', 'PORT', 'REDIRECTED', 'INBOUND', 'REFUSED', 'TOOL'], redirections.map(each => [
        each.scope, String(each.outboundPort), String(each.outbound),
        each.inboundPort === undefined ? '-' : `${each.inbound} to ${each.inboundPort}`, String(each.refused), each.tool
      ])))
    }
    return 0
  }
})
