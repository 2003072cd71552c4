import { formatDuration } from '../../runtime/duration.ts'
import { federationService } from '../../wire/generated/federation.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { optionalChoiceFlag, secondsFlag, spiffeIdFlag, switchFlag, textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { formatUnixSeconds } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { explainMissing } from './federation-api.ts'

export const federationInvite = defineCommand({
  flags: {
    bundleEndpointURL: textFlag('where the other side reaches this trust domain\'s bundle, an https URL', { placeholder: 'URL' }),
    bundleEndpointProfile: optionalChoiceFlag('how the endpoint is known; as this server serves it unless given', [
      'https_web', 'https_spiffe'
    ]),
    endpointSpiffeID: spiffeIdFlag('the endpoint\'s SPIFFE ID, of https_spiffe; the server\'s unless given'),
    scope: textFlag('what you ask the other side for, in words; it grants nothing'),
    ttl: secondsFlag('how long it can be accepted, 31 days at the most', formatDuration(86_400_000)),
    carryBundle: switchFlag('have the bundle come along, for who cannot reach the endpoint yet; else it is fetched from there'),
    ...serverFlags,
    output: outputFlag
  },
  details: 'Prints one line for the other side\'s `assay federation accept`. It is no secret, but whoever puts another in its place\n' +
    'decides whom they trust: send it by a way that they know to be yours, or have them compare the pin. Nothing is stored here.\n' +
    'The relationship is one-way: to trust them as well, accept an invitation of theirs.',
  examples: [
    'assay federation invite -bundleEndpointURL https://spiffe.example.org:8443',
    'assay federation invite -bundleEndpointURL https://bundles.example.org/b -bundleEndpointProfile https_web -ttl 1h -scope orders'
  ],
  async run (call) {
    const { flags, terminal } = call
    const { bundleEndpointURL: bundleEndpointUrl, bundleEndpointProfile, endpointSpiffeID: endpointSpiffeId } = flags
    const { scope, ttl, carryBundle } = flags
    if (bundleEndpointUrl === undefined) throw usage('say where the other side reaches the bundle: -bundleEndpointURL')
    const request = { bundleEndpointUrl, bundleEndpointProfile, endpointSpiffeId, scope, ttlSeconds: ttl, carryBundle }
    const answer = await withServer(call, async channel =>
      await channel.client(federationService).invite(request, { signal: terminal.signal })
        .catch((error: unknown) => { throw explainMissing(error) }))
    if (flags.output === 'json') {
      terminal.out(`${formatJson(answer)}\n`)
      return 0
    }
    terminal.out(`${answer.invitation}\n`)
    terminal.err(`Valid until ${formatUnixSeconds(answer.expiresAt)}; pin ${answer.pin}\n`)
    if (carryBundle && !answer.carriesBundle) {
      terminal.err('The bundle is too long to come along: send it too (`assay bundle show -format spiffe`)\n')
    }
    return 0
  }
})
