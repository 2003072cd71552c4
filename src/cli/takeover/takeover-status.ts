import { isEmpty } from '../../takeover/authorities.ts'
import { isBlocked } from '../../takeover/finding.ts'
import { defineCommand } from '../command.ts'
import { spireGoneFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'
import { tellTakeover } from './takeover-plan.ts'
import { isWithoutSpire, tellWithoutSpire, withoutSpire } from './takeover-without-spire.ts'

export const takeoverStatus = defineCommand({
  flags: { ...takeoverFlags, spireGone: spireGoneFlag },
  details: 'What is left, what would break, and what the next step is. Changes nothing.\n' +
    'Exit code 0: both sides are equal and agents may move, or the takeover is over; 3: not yet; 4: something is in the way.',
  examples: ['assay takeover status', 'assay takeover status -spireGone', 'assay takeover status --output json'],
  async run (call) {
    if (await isWithoutSpire(call)) {
      const looked = await withoutSpire(call, takeover => takeover.look())
      tellWithoutSpire(call, looked)
      return looked.journal.phase === 'finished' ? 0 : isBlocked(looked.plan.findings) ? 4 : 3
    }
    const looked = await withTakeover(call, takeover => takeover.look())
    tellTakeover(call, looked)
    const { plan, journal } = looked
    if (journal?.phase === 'finished' || journal?.phase === 'rolled_back') return 0
    if (isBlocked(plan.findings)) return 4
    const { entries: { create, update, remove }, authorities: { toThere, toHere } } = plan
    const equal = create.length + update.length + remove.length === 0 && isEmpty(toThere) && isEmpty(toHere)
    return journal?.phase === 'open' && equal ? 0 : 3
  }
})
