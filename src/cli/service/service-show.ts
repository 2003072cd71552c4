import { serviceRegistryService } from '../../wire/generated/cluster.ts'
import { withServer } from '../channel-call.ts'
import { watchConvergence } from '../cluster/cluster-client.ts'
import { defineCommand } from '../command.ts'
import { formatConsumers } from '../convergence/consumers.ts'
import { textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatEndpoints, formatService } from './format-service.ts'

const timeoutMs = 10_000

export const serviceShow = defineCommand({
  flags: {
    name: textFlag('the service with this name', { placeholder: 'NAME' }),
    serviceID: textFlag('the service with this ID', { placeholder: 'ID' }),
    ...serverFlags,
    output: outputFlag
  },
  details: 'Below the service: who is behind it, and which agents follow services and thus can call it.',
  examples: ['assay service show -name web', 'assay service show -serviceID 6c2e… --output json'],
  async run (call) {
    const { flags, terminal } = call
    const { signal } = terminal
    if ((flags.name === undefined) === (flags.serviceID === undefined)) throw usage('one of -name and -serviceID is required')
    const { state, consumers } = await withServer(call, async channel => {
      const state = await channel.client(serviceRegistryService).getService({ id: flags.serviceID, name: flags.name }, { signal })
      const { consumers } = await watchConvergence(channel, { once: true, services: true }, { signal, timeoutMs })
      return { state, consumers }
    })
    if (flags.output === 'json') {
      terminal.out(`${formatJson({ ...state, consumers })}\n`)
      return 0
    }
    terminal.out(formatService(state.service ?? {}))
    terminal.out(state.endpoints.length === 0 ? 'No agent reports an endpoint\n' : formatEndpoints(state.endpoints))
    terminal.out(consumers.length === 0 ? '\nNo agent follows services\n' : `\n${formatConsumers(consumers, undefined)}`)
    return 0
  }
})
