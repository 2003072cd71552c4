import { federationService, type GetStatusResponse } from '../../wire/generated/federation.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { counted } from '../pretty.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { explainMissing } from './federation-api.ts'
import { formatPartner } from './format-partner.ts'

/** With which nobody need be woken. */
const fine: ReadonlySet<string> = new Set(['healthy', 'pending'])

export const federationStatus = defineCommand({
  flags: { ...replicaFlags, output: outputFlag },
  details: 'healthy; pending: nothing has come yet, and it has not failed for long; failing: the endpoint has given nothing in five\n' +
    'polls in a row, and the last good bundle is in force; unfollowed: a poll is two minutes overdue; broken: nothing of that domain\n' +
    'is accepted.\n' +
    'Exit code 0: every partner is healthy or pending. 1: one is not.',
  examples: ['assay federation status', 'assay federation status --output json'],
  async run (call) {
    const { flags, terminal } = call
    const status = await withServers(call, servers => servers.ask(async channel => {
      const options = { signal: terminal.signal, timeoutMs: 10_000 }
      return await channel.client(federationService).getStatus({}, options).catch((error: unknown) => { throw explainMissing(error) })
    }))
    terminal.out(flags.output === 'json' ? `${formatJson(encodeStatus(status))}\n` : formatStatus(status))
    return status.partners.every(({ health }) => fine.has(health)) ? 0 : 1
  }
})

function encodeStatus (status: GetStatusResponse): object {
  return {
    ...status,
    partners: status.partners.map(partner => {
      const endsAt = partner.bundle?.trustEndsAt
      return { ...partner, trustEndsInMs: endsAt === undefined ? undefined : endsAt - status.now }
    })
  }
}

function formatStatus ({ trustDomain, partners, now }: GetStatusResponse): string {
  const heading = `Trust domain ${trustDomain} federates with ${counted(partners.length, 'other', 'others')}\n`
  return `${heading}${partners.map(partner => formatPartner(partner, now)).join('')}`
}
