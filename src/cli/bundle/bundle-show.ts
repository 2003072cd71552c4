import { bundleService } from '../../wire/generated/server-bundle.ts'
import { decodeBundle } from '../../wire/bundle-codec.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { bundleFormatFlag, formatBundle } from './bundle-format.ts'

export const bundleShow = defineCommand({
  flags: { format: bundleFormatFlag, ...serverFlags, output: outputFlag },
  examples: ['assay bundle show > bundle.pem', 'assay bundle show -format spiffe > example.org.json'],
  async run (call) {
    const { flags, terminal } = call
    const bundle = await withServer(call, channel => channel.client(bundleService).getBundle({}, { signal: terminal.signal }))
    terminal.out(flags.output === 'json' ? `${formatJson(bundle)}\n` : formatBundle(decodeBundle(bundle), flags.format))
    return 0
  }
})
