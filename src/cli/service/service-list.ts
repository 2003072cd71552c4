import { serviceRegistryService } from '../../wire/generated/cluster.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { allPages, pageSize } from '../paged.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatServices } from './format-service.ts'

export const serviceList = defineCommand({
  flags: { ...serverFlags, output: outputFlag },
  details: 'ENDPOINTS counts what agents report and what the service names itself; NODES those whose agents report some.',
  examples: ['assay service list', 'assay service list --output json'],
  async run (call) {
    const { flags, terminal } = call
    const services = await withServer(call, channel => allPages(terminal, 'services', async pageToken => {
      const request = { pageSize, pageToken }
      const registry = channel.client(serviceRegistryService)
      const { services: items, nextPageToken } = await registry.listServices(request, { signal: terminal.signal })
      return { items, nextPageToken }
    }))
    if (flags.output === 'json') terminal.out(`${formatJson({ services, nextPageToken: '' })}\n`)
    else terminal.out(services.length === 0 ? 'No services found\n' : formatServices(services))
    return 0
  }
})
