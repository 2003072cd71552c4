import { systemClock } from '../../runtime/clock.ts'
import { formatDuration } from '../../runtime/duration.ts'
import { isStop } from '../../runtime/tasks.ts'
import { workloadService, type X509SVIDResponse } from '../../wire/generated/workload.ts'
import { watchStream, type WatchEvent } from '../../workloadapi/watch-stream.ts'
import { withAgent } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { refusalOf } from '../refusal.ts'
import { agentFlags } from '../socket-path.ts'
import { formatX509Response } from './format-x509.ts'
import { workloadCallOptions } from './workload-call.ts'

export const apiWatch = defineCommand({
  flags: agentFlags,
  details: 'Ends with 0 at Ctrl-C. An agent that goes away or has no identity for this process is asked again, with pauses that grow;\n' +
    'ends with 1 when asking again cannot help.',
  examples: ['assay api watch'],
  async run (call) {
    const { terminal } = call
    const { signal } = terminal
    try {
      await withAgent(call, async channel => {
        const open = () => channel.client(workloadService).fetchX509SVID({}, workloadCallOptions(terminal))
        let waited = systemClock.monotonicMs()
        for await (const event of watchStream(open, { clock: systemClock, random: Math.random, signal })) {
          const now = systemClock.monotonicMs()
          if (event.kind === 'state') terminal.out(formatX509Response(event.response, now - waited, terminal.program))
          else terminal.err(tellLost(event))
          waited = now
        }
      })
    } catch (error) {
      if (isStop(error, signal) || signal.aborted) return 0
      throw error
    }
    return 0
  }
})

function tellLost ({ error, retryInMs }: WatchEvent<X509SVIDResponse> & { kind: 'lost' }): string {
  const { message, next } = refusalOf(error) ?? { message: 'the agent ended the stream', next: undefined }
  const when = retryInMs === 0 ? 'at once' : `in ${formatDuration(retryInMs)}`
  return `Lost: ${message}; asking again ${when}\n${next === undefined ? '' : `  next: ${next}\n`}`
}
