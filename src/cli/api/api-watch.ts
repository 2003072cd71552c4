import { systemClock } from '../../runtime/clock.ts'
import { isStop } from '../../runtime/tasks.ts'
import { workloadService } from '../../wire/generated/workload.ts'
import { withAgent } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { agentFlags } from '../socket-path.ts'
import { formatX509Response } from './format-x509.ts'
import { workloadCallOptions } from './workload-call.ts'

export const apiWatch = defineCommand({
  flags: agentFlags,
  details: 'Ends with 0 at Ctrl-C, and with 1 when the agent goes away or takes the identity back.',
  examples: ['assay api watch'],
  async run (call) {
    const { terminal } = call
    try {
      await withAgent(call, async channel => {
        let waited = systemClock.monotonicMs()
        for await (const response of channel.client(workloadService).fetchX509SVID({}, workloadCallOptions(terminal))) {
          const now = systemClock.monotonicMs()
          terminal.out(formatX509Response(response, now - waited))
          waited = now
        }
      })
    } catch (error) {
      if (isStop(error, terminal.signal) || terminal.signal.aborted) return 0
      throw error
    }
    return 0
  }
})
