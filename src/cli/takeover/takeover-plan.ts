import { defineCommand, type ExitCode } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { isBlocked } from '../../takeover/finding.ts'
import type { Looked } from '../../takeover/look.ts'
import type { Terminal } from '../terminal.ts'
import { encodeTakeover, formatTakeover } from './format-takeover.ts'
import { spireGoneFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'
import { isWithoutSpire, tellWithoutSpire, withoutSpire } from './takeover-without-spire.ts'

export const takeoverPlan = defineCommand({
  flags: { ...takeoverFlags, spireGone: spireGoneFlag },
  details: 'Reads both servers and changes nothing. Marked with ! is what a start would be refused for, with ~ what cannot move, with -\n' +
    'what is left to you. Exit code 0: nothing is in the way of a start; 4: something is. With -spireGone it reads our server alone,\n' +
    'says what is lost (x), and what is in the way of `finish -spireGone`.',
  examples: [
    'assay takeover plan',
    'assay takeover plan -spireSocketPath /tmp/spire-server/private/api.sock -socketPath /tmp/assay-server/private/api.sock',
    'assay takeover plan -spireGone',
    'assay takeover plan -spireAddress spire.example.org:8081 -svid admin.pem -svidKey admin.key -bundle bundle.pem --output json'
  ],
  async run (call) {
    if (await isWithoutSpire(call)) {
      const looked = await withoutSpire(call, takeover => takeover.look())
      tellWithoutSpire(call, looked)
      return isBlocked(looked.plan.findings) ? 4 : 0
    }
    const looked = await withTakeover(call, takeover => takeover.look())
    tellTakeover(call, looked)
    return isBlocked(looked.plan.findings) ? 4 : 0
  }
})

export function tellTakeover (
  { flags, terminal }: { readonly flags: { readonly output: 'pretty' | 'json' }, readonly terminal: Terminal }, looked: Looked
): ExitCode {
  terminal.out(flags.output === 'json' ? `${formatJson(encodeTakeover(looked))}\n` : formatTakeover(looked))
  return 0
}
