import { serviceRegistryService, type DeletedService } from '../../wire/generated/cluster.ts'
import { defineCommand } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { textListFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { printable } from '../pretty.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { statusCodeName } from '../status-code.ts'
import type { Terminal } from '../terminal.ts'
import { servicesConcern } from './service-batch.ts'

export const serviceDelete = defineCommand({
  flags: {
    name: textListFlag('a service to delete, by name', 'NAME'),
    serviceID: textListFlag('a service to delete, by ID', 'ID'),
    ...waitFlags,
    ...replicaFlags,
    output: outputFlag
  },
  examples: ['assay service delete -name web --wait', 'assay service delete -serviceID 6c2e…'],
  async run (call) {
    const { flags, terminal } = call
    if (flags.name.length + flags.serviceID.length === 0) throw usage('a service is required: -name or -serviceID')
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const ids = [...flags.serviceID]
      for (const name of flags.name) {
        const { service } = await servers.ask(channel =>
          channel.client(serviceRegistryService).getService({ name }, { signal: terminal.signal }))
        ids.push(service?.id ?? '')
      }
      const { results } = await servers.change(channel =>
        channel.client(serviceRegistryService).batchDeleteService({ ids }, { signal: terminal.signal }))
      const deleted = results.filter(({ status }) => (status?.code ?? 0) === 0)
      const pretty = () => tellDeleted(results, terminal)
      const code = await tellChange(call, { json: { results }, pretty }, wait, deleted.length === 0 ? undefined : servicesConcern)
      return deleted.length < results.length ? 1 : code
    })
  }
})

function tellDeleted (results: readonly DeletedService[], terminal: Terminal): void {
  for (const { id, status } of results) {
    if (status === undefined || status.code === 0) {
      terminal.out(`Deleted service with ID: ${printable(id)}\n`)
    } else {
      const reason = `code: ${statusCodeName(status.code)}, msg: ${JSON.stringify(printable(status.message))}`
      terminal.err(`Failed to delete service with ID ${printable(id)} (${reason})\n`)
    }
  }
}
