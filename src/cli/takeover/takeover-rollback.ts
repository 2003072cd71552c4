import { defineCommand } from '../command.ts'
import { forceFlag, spireGoneFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'
import { tellTakeover } from './takeover-plan.ts'
import { nobodyToGoBackTo } from './takeover-without-spire.ts'

export const takeoverRollback = defineCommand({
  flags: { ...takeoverFlags, force: forceFlag, spireGone: spireGoneFlag },
  details: 'Gives the trust domain back to SPIRE, from wherever the takeover is. Of a finished one, what changed here since goes to\n' +
    'SPIRE first. Refused while agents are here (exit code 4): let them run at SPIRE again, and repeat it. Then what was copied here\n' +
    'goes. Our authorities stay in SPIRE\'s bundle until they end: its API takes none out.\n' +
    'Refused where SPIRE\'s server is gone for good (-spireGone): there is nobody to give it back to.',
  examples: ['assay takeover rollback', 'assay takeover rollback --output json'],
  async run (call) {
    if (call.flags.spireGone) throw nobodyToGoBackTo()
    return tellTakeover(call, await withTakeover(call, takeover => takeover.rollBack({ force: call.flags.force })))
  }
})
