import { defineCommand } from '../command.ts'
import { forceFlag, spireGoneFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'
import { tellTakeover } from './takeover-plan.ts'
import { finishWithoutSpire, isWithoutSpire, withoutSpire } from './takeover-without-spire.ts'

export const takeoverFinish = defineCommand({
  flags: { ...takeoverFlags, force: forceFlag, spireGone: spireGoneFlag },
  details: 'Copies what is new a last time; from then on our server\'s entries are the ones that count. Refused while agents are left\n' +
    'at SPIRE (exit code 4), or before agents may move (3). SPIRE\'s authorities stay in our bundle until they end.\n' +
    'Where SPIRE\'s server is gone for good, -spireGone shows what is lost with it, and ends the takeover by our server and the state\n' +
    'file alone. There is no way back then; agents that are left may still move. Refused while SPIRE\'s server answers.',
  examples: ['assay takeover finish', 'assay takeover finish -force', 'assay takeover finish -spireGone'],
  async run (call) {
    if (await isWithoutSpire(call)) return await withoutSpire(call, takeover => finishWithoutSpire(call, takeover))
    return tellTakeover(call, await withTakeover(call, takeover => takeover.finish({ force: call.flags.force })))
  }
})
