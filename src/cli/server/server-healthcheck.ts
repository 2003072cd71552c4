import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { checkHealth, healthcheckFlags } from '../healthcheck.ts'
import { serverFlags } from '../socket-path.ts'

export const serverHealthcheck = defineCommand({
  flags: { ...healthcheckFlags, ...serverFlags },
  examples: ['assay server healthcheck', 'assay server healthcheck -verbose -socketPath /run/assay/api.sock'],
  run: call => checkHealth('server', call.flags, call.terminal, use => withServer(call, use))
})
