import { bundleService } from '../../wire/generated/server-bundle.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { counted } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'

export const bundleCount = defineCommand({
  flags: { ...serverFlags, output: outputFlag },
  examples: ['assay bundle count'],
  async run (call) {
    const { flags, terminal } = call
    const { count } = await withServer(call, channel => channel.client(bundleService).countBundles({}, { signal: terminal.signal }))
    terminal.out(`${flags.output === 'json' ? formatJson({ count }) : counted(count, 'bundle', 'bundles')}\n`)
    return 0
  }
})
