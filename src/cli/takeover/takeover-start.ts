import { defineCommand } from '../command.ts'
import { secondsFlag } from '../flag.ts'
import { forceFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'
import { tellTakeover } from './takeover-plan.ts'

export const takeoverStart = defineCommand({
  flags: {
    ...takeoverFlags,
    settle: secondsFlag('how long agents and partners have to see the bundles before entries are copied',
      'twice the refresh hint of SPIRE\'s bundle, a minute at least'),
    force: forceFlag
  },
  details: 'Publishes the authorities of each side in the other\'s bundle and has our server know SPIRE\'s partners. It breaks nobody,\n' +
    'and is refused where going on would. May be repeated. Keep `assay takeover run` running from here to the end.',
  examples: ['assay takeover start', 'assay takeover start -settle 20m -state /var/lib/assay/takeover.json'],
  async run (call) {
    const { flags: { settle, force } } = call
    const settleMs = settle === undefined ? undefined : settle * 1_000
    return tellTakeover(call, await withTakeover(call, async takeover => {
      await takeover.round({ begin: true, settleMs, force })
      return await takeover.look()
    }))
  }
})
