import { systemClock } from '../../runtime/clock.ts'
import { isStop } from '../../runtime/tasks.ts'
import { codeOf } from '../../spiffe/errors.ts'
import type { Looked } from '../../takeover/look.ts'
import type { Takeover } from '../../takeover/takeover.ts'
import { defineCommand, type ExitCode } from '../command.ts'
import { durationFlag } from '../flag.ts'
import { formatTime, printable } from '../pretty.ts'
import { refusalOf } from '../refusal.ts'
import type { Terminal } from '../terminal.ts'
import { forceFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'

/** How many times as long as a look takes the next pause is at least: no server is kept busy by looks. */
const share = 3

export const takeoverRun = defineCommand({
  flags: { ...takeoverFlags, interval: durationFlag('how often both sides are looked at', 5_000, '5s'), force: forceFlag },
  details: 'Keeps both sides equal until SIGINT or SIGTERM, or until the takeover is finished or rolled back: authorities that a\n' +
    'rotation prepares reach the other\'s bundle, entries and partners that are made, changed or removed at SPIRE ours. Killed, it\n' +
    'goes on where it was. What fails is told and tried again.',
  examples: ['assay takeover run', 'assay takeover run -interval 2s -state /var/lib/assay/takeover.json'],
  async run (call) {
    const { flags: { interval, force }, terminal } = call
    return await withTakeover(call, takeover => keepEqual(takeover, { intervalMs: interval, force }, terminal))
  }
})

async function keepEqual (
  takeover: Takeover, { intervalMs, force }: { readonly intervalMs: number, readonly force: boolean }, terminal: Terminal
): Promise<ExitCode> {
  let told = ''
  const tell = (text: string) => {
    if (text !== told) terminal.err(`${formatTime(systemClock.now())} ${printable(text)}\n`)
    told = text
  }
  for (;;) {
    const startedMs = systemClock.monotonicMs()
    try {
      const { plan, journal } = await takeover.round({ force })
      tell(describe({ plan, journal }))
    } catch (error) {
      if (isStop(error, terminal.signal) || terminal.signal.aborted) return 0
      const code = codeOf(error)
      if (code === 'takeover_over' || code === 'takeover_spire_gone') {
        tell((error as Error).message)
        return 0
      }
      const refusal = refusalOf(error)
      if (refusal === undefined || code === 'takeover_unknown' || code === 'file_unusable') throw error
      tell(`${refusal.code}: ${refusal.message}; next: ${refusal.next}`)
    }
    const pauseMs = Math.max(intervalMs, share * (systemClock.monotonicMs() - startedMs))
    try {
      await systemClock.sleep(pauseMs, terminal.signal)
    } catch (error) {
      if (terminal.signal.aborted) return 0
      throw error
    }
  }
}

function describe ({ plan, journal }: Pick<Looked, 'plan' | 'journal'>): string {
  const { create, update, remove } = plan.entries
  const { toThere, toHere } = plan.authorities
  const count = (place: string) => plan.agents.filter(agent => agent.place === place).length
  return `${journal?.phase}: ${create.length} entries copied, ${update.length} changed, ${remove.length} removed; ` +
    `${toThere.x509.length + toThere.jwt.length} authorities published at SPIRE, ${toHere.x509.length + toHere.jwt.length} here; ` +
    `${count('here')} agents here, ${count('there')} at SPIRE`
}
