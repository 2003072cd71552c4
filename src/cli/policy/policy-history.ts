import { policyService } from '../../wire/generated/policy.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatVersions } from './format-policy.ts'

export const policyHistory = defineCommand({
  flags: { ...serverFlags, output: outputFlag },
  details: 'The newest first, marked with a star: it is active. The last hundred are remembered.',
  examples: ['assay policy history', 'assay policy history --output json'],
  async run (call) {
    const { flags, terminal } = call
    const { versions } = await withServer(call, channel =>
      channel.client(policyService).listPolicyVersions({}, { signal: terminal.signal, timeoutMs: 10_000 }))
    if (flags.output === 'json') terminal.out(`${formatJson({ versions })}\n`)
    else terminal.out(versions.length === 0 ? 'No policies were ever applied\n' : formatVersions(versions))
    return 0
  }
})
