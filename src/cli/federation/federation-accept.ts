import type { Invitation } from '../../federation/invitation/invitation.ts'
import { parseInvitation } from '../../federation/invitation/read-invitation.ts'
import type { Channel } from '../../rpc/channel.ts'
import { systemClock } from '../../runtime/clock.ts'
import { parseBundleDocument } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { decodeBundle, encodeBundle } from '../../wire/bundle-codec.ts'
import { bundleService } from '../../wire/generated/server-bundle.ts'
import { federationService } from '../../wire/generated/federation.ts'
import { entryService } from '../../wire/generated/server-entry.ts'
import { trustDomainService } from '../../wire/generated/server-trust-domain.ts'
import { refuseFailedItem } from '../batch-item.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, switchFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { matchBehaviors } from '../match-behavior.ts'
import { readBundleText } from '../read-bundle.ts'
import { readInputText } from '../read-input.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'
import { activeScopes } from './active-scopes.ts'
import { explainMissing } from './federation-api.ts'
import { formatInvitation } from './format-invitation.ts'
import { believe, type Accepted } from './invitation-anchor.ts'

export const federationAccept = defineCommand({
  flags: {
    yes: switchFlag('accept it; else it is only checked and shown'),
    trustDomainBundlePath: pathFlag('the inviting domain\'s bundle as you have it by another way, a SPIFFE document'),
    ...serverFlags,
    output: outputFlag
  },
  argument: { name: 'FILE|-|TEXT' },
  details: 'Checks signature, end and pin, and shows what it would mean, and what active policies let in of them already. It is checked\n' +
    'by -trustDomainBundlePath, else by the bundle of that domain that is stored here, else by the one it carries or, mostly, names:\n' +
    'then the server fetches that from the endpoint.\n' +
    'Compare the pin with who sent it. A stored bundle is never replaced by an invitation.\n' +
    'Exit code 0: accepted. 1: refused, or only shown.',
  examples: [
    'assay federation accept invitation.txt',
    'assay federation accept invitation.txt -yes',
    'assay federation accept - -yes -trustDomainBundlePath partner.json --output json < invitation.txt'
  ],
  async run (call) {
    const { flags, terminal, argument } = call
    const text = await readText(argument, terminal)
    const parsed = parseInvitation(text)
    const { claimed } = parsed
    const { trustDomain } = claimed.endpoint
    const path = flags.trustDomainBundlePath
    const given = path === undefined ? undefined : readBundleText(await readInputText(path, terminal), { name: path, trustDomain })
    return withServer(call, async channel => {
      const { own, stored, entries } = await whatIsKnown(channel, trustDomain, terminal)
      const fetch = async () => parseBundleDocument(
        (await channel.client(federationService).fetchInvited({ invitation: text }, { signal: terminal.signal })
          .catch((error: unknown) => { throw explainMissing(error) })).bundle, trustDomain)
      const now = systemClock.now()
      const accepted = await believe(parsed, { own, given, stored, fetch }, now)
      const policies = await activeScopes(channel, own.trustDomain, trustDomain, terminal.signal)
      const json = flags.output === 'json'
      const tell = (more: object) => terminal.out(`${formatJson({
        invitation: encodeInvitation(claimed), checkedBy: accepted.checkedBy, accepted: flags.yes, entries,
        ...typeof policies === 'string' ? {} : { policiesVersion: policies.version, federationScopes: policies.scopes }, ...more
      })}\n`)
      if (!json) terminal.out(formatInvitation(claimed, { own: own.trustDomain, accepted, entries, policies, now }))
      if (!flags.yes) {
        if (json) tell({})
        terminal.err('Nothing is changed. To accept it: the same with -yes\n')
        return 1
      }
      const { results } = await channel.client(trustDomainService).batchCreateFederationRelationship({
        federationRelationships: [relationshipOf(claimed, accepted)],
        outputMask: { bundleEndpointUrl: true, bundleEndpointProfile: true }
      }, { signal: terminal.signal })
      refuseFailedItem(results[0]?.status)
      if (json) tell({ results })
      else terminal.out(`\nAccepted: ${own.trustDomain} follows the bundle of ${trustDomain}; see \`assay federation status\`\n`)
      return 0
    })
  }
})

/** An invitation itself has two dots and no other mark; else it is where one is. */
async function readText (argument: string, terminal: Terminal): Promise<string> {
  return /^\s*eyJ[\w-]*\.[\w-]+\.[\w-]+\s*$/.test(argument) ? argument : readInputText(argument, terminal)
}

async function whatIsKnown (
  channel: Channel, trustDomain: TrustDomain, { signal }: Terminal
): Promise<{ own: Bundle, stored: Bundle | undefined, entries: number }> {
  const bundles = channel.client(bundleService)
  const own = decodeBundle(await bundles.getBundle({}, { signal }))
  if (trustDomain === own.trustDomain) return { own, stored: undefined, entries: 0 }
  const stored = await bundles.getFederatedBundle({ trustDomain }, { signal }).then(decodeBundle, (error: unknown) => {
    if ((error as { status?: string }).status !== 'NOT_FOUND') throw error
    return undefined
  })
  if (stored === undefined) return { own, stored, entries: 0 }
  const filter = { byFederatesWith: { trustDomains: [trustDomain], match: matchBehaviors.any } }
  const { count } = await channel.client(entryService).countEntries({ filter }, { signal })
  return { own, stored, entries: count }
}

function relationshipOf ({ endpoint: { trustDomain, url, profile } }: Invitation, { bundle }: Accepted) {
  return {
    trustDomain,
    bundleEndpointUrl: url,
    ...profile.kind === 'https_web' ? { httpsWeb: {} } : { httpsSpiffe: { endpointSpiffeId: profile.endpointId } },
    ...bundle === undefined ? {} : { trustDomainBundle: encodeBundle(bundle) }
  }
}

function encodeInvitation ({ endpoint: { trustDomain, url, profile }, pin, scope, expiresAt }: Invitation): object {
  return {
    trustDomain, bundleEndpointUrl: url, bundleEndpointProfile: profile.kind, pin, scope, expiresAt,
    ...profile.kind === 'https_spiffe' ? { endpointSpiffeId: profile.endpointId } : {}
  }
}
