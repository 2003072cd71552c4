import { defineCommand } from '../command.ts'
import { forceFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'
import { tellTakeover } from './takeover-plan.ts'

export const takeoverFinish = defineCommand({
  flags: { ...takeoverFlags, force: forceFlag },
  details: 'Copies what is new a last time; from then on our server\'s entries are the ones that count. Refused while agents are left\n' +
    'at SPIRE (exit code 4), or before agents may move (3). SPIRE\'s authorities stay in our bundle until they end.',
  examples: ['assay takeover finish', 'assay takeover finish -force'],
  async run (call) {
    return tellTakeover(call, await withTakeover(call, takeover => takeover.finish({ force: call.flags.force })))
  }
})
