import { formatDuration } from '../../runtime/duration.ts'
import type { GetStatusResponse } from '../../wire/generated/cluster.ts'
import { getStatus } from '../cluster/cluster-client.ts'
import { behindOf, dateOf, formatBehind, formatRevision, shortId } from '../cluster/format-cursor.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { formatRows, formatTable, formatTime, formatUnixSeconds, printable } from '../pretty.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'

export const serverStatus = defineCommand({
  flags: { ...replicaFlags, output: outputFlag },
  details: 'Replicas are shown as they last reported, which they do every two seconds.\n' +
    'Exit code 0: all is well. 1: there are warnings, such as a replica that has not reported or an authority without a successor.',
  examples: ['assay server status', 'assay server status --output json'],
  async run (call) {
    const { flags, terminal } = call
    const status = await withServers(call, servers =>
      servers.ask(channel => getStatus(channel, { signal: terminal.signal, timeoutMs: 10_000 })))
    if (flags.output === 'json') {
      const replicas = status.replicas.map(replica => ({ ...replica, behind: behindOf(status.head, replica.cursor) }))
      terminal.out(`${formatJson({ ...status, replicas })}\n`)
    } else {
      terminal.out(formatStatus(status))
      for (const warning of status.warnings) terminal.err(`Warning: ${printable(warning)}\n`)
    }
    return status.warnings.length > 0 ? 1 : 0
  }
})

const replicaHeadings = ['REPLICA', 'NAME', 'ADDRESS', 'VERSION', 'UP SINCE', 'REVISION', 'BEHIND', 'STALE', 'CHANGES', 'AGENTS']

function formatStatus (status: GetStatusResponse): string {
  const { head, replicas, authorities } = status
  const single = replicas.length <= 1 && status.datastore !== 'postgres'
  return [
    formatRows([
      ['Trust domain', status.trustDomain],
      ['Datastore', status.datastore],
      ['Log', head === undefined ? undefined : `${head.number} in epoch ${head.epoch}`],
      ['Bundle', `sequence ${status.bundleSequence}`],
      ['Authorities', status.sharedAuthorities ? 'shared by all replicas' : single ? undefined : 'of each replica its own'],
      ['Chores', formatLease(status)]
    ], 13),
    '\n',
    formatTable(replicaHeadings, replicas.map(replica => [
      `${shortId(replica.id)}${replica.id === status.replicaId ? '*' : ''}`,
      replica.name,
      replica.address,
      replica.version,
      formatTime(new Date(Number(replica.startedAt))),
      formatRevision(replica.cursor),
      formatBehind(behindOf(head, replica.cursor)),
      formatDuration(Number(replica.staleMs)),
      replica.nudged ? 'nudged' : 'polled',
      `${replica.agents}${replica.asideMs > 0n ? ` (aside for ${formatDuration(Number(replica.asideMs))})` : ''}`
    ])),
    '* answers\n\n',
    formatTable(['AUTHORITY', 'STATE', 'EXPIRES', 'ID'], authorities.map(({ kind, state, expiresAt, authorityId }) =>
      [kind, state, formatUnixSeconds(expiresAt), authorityId]))
  ].join('')
}

function formatLease ({ leaseHolder, leaseExpiresAt, replicas }: GetStatusResponse): string {
  const until = dateOf(leaseExpiresAt)
  if (leaseHolder === '' || until === undefined) return 'nobody for the moment'
  const name = replicas.find(({ id }) => id === leaseHolder)?.name
  return `${shortId(leaseHolder)}${name === undefined ? '' : ` (${name})`} until ${formatTime(until)}`
}
