import type { Channel } from '../rpc/channel.ts'
import { HealthCheckResponse_ServingStatus as Serving, healthService } from '../wire/generated/health.ts'
import type { ExitCode } from './command.ts'
import { switchFlag } from './flag.ts'
import { refusalOf } from './refusal.ts'
import type { Terminal } from './terminal.ts'

export const healthcheckFlags = {
  shallow: switchFlag('accepted as SPIRE does; the check is the same'),
  verbose: switchFlag('tell what is done and why it failed')
}

/** One question with a short deadline; any other answer than SERVING is exit code 1. */
export async function checkHealth (
  whose: 'server' | 'agent',
  { verbose }: { readonly verbose: boolean },
  terminal: Terminal,
  withChannel: (use: (channel: Channel) => Promise<void>) => Promise<void>
): Promise<ExitCode> {
  if (verbose) terminal.out(`Checking ${whose} health...\n`)
  try {
    let healthy = false
    await withChannel(async channel => {
      const { status } = await channel.client(healthService).check({}, { signal: terminal.signal, timeoutMs: 5_000 })
      healthy = status === Serving.SERVING
    })
    if (healthy) {
      terminal.out(`${whose === 'server' ? 'Server' : 'Agent'} is healthy.\n`)
      return 0
    }
    terminal.err(`Error: ${whose} is unhealthy\n`)
  } catch (error) {
    const refusal = refusalOf(error)
    if (refusal === undefined || refusal.code === 'usage_invalid') throw error
    if (verbose) terminal.err(`Failed to check health: ${refusal.message}\n`)
    terminal.err(`Error: ${whose} is unhealthy: unable to determine health\n`)
  }
  return 1
}
