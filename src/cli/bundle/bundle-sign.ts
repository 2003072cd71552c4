import { formatDuration } from '../../runtime/duration.ts'
import { federationService } from '../../wire/generated/federation.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { explainMissing } from '../federation/federation-api.ts'
import { secondsFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { formatUnixSeconds } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'

export const bundleSign = defineCommand({
  flags: {
    ttl: secondsFlag('how long partners take it, 7 days at the most', formatDuration(86_400_000)),
    ...serverFlags,
    output: outputFlag
  },
  details: 'For an object store, a mirror or a file of partners (federation.copies of their servers), from which they have it while the\n' +
    'bundle endpoint cannot be reached. Signed by the JWT key: it is no secret, and who can write there can change nothing in it.\n' +
    'Put a new one there every few minutes: a partner that has not seen a JWT key before cannot check what it signed.',
  examples: ['assay bundle sign > example.org.jws', 'assay bundle sign -ttl 6h > example.org.jws'],
  async run (call) {
    const { flags, terminal } = call
    const answer = await withServer(call, async channel =>
      await channel.client(federationService).signBundle({ ttlSeconds: flags.ttl }, { signal: terminal.signal })
        .catch((error: unknown) => { throw explainMissing(error) }))
    if (flags.output === 'json') {
      terminal.out(`${formatJson(answer)}\n`)
      return 0
    }
    terminal.out(`${answer.signedBundle}\n`)
    terminal.err(`Valid until ${formatUnixSeconds(answer.expiresAt)}\n`)
    return 0
  }
})
