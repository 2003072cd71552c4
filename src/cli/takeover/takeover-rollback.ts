import { defineCommand } from '../command.ts'
import { forceFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'
import { tellTakeover } from './takeover-plan.ts'

export const takeoverRollback = defineCommand({
  flags: { ...takeoverFlags, force: forceFlag },
  details: 'Gives the trust domain back to SPIRE, from wherever the takeover is. Of a finished one, what changed here since goes to\n' +
    'SPIRE first. Refused while agents are here (exit code 4): let them run at SPIRE again, and repeat it. Then what was copied here\n' +
    'goes. Our authorities stay in SPIRE\'s bundle until they end: its API takes none out.',
  examples: ['assay takeover rollback', 'assay takeover rollback --output json'],
  async run (call) {
    return tellTakeover(call, await withTakeover(call, takeover => takeover.rollBack({ force: call.flags.force })))
  }
})
