import { parseSpiffeId } from '../../spiffe/spiffe-id.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { defineCommand } from '../command.ts'
import { instantFlag } from '../flag.ts'
import { revoke, revokeFlags } from './revoke-call.ts'

export const revokeId = defineCommand({
  argument: { name: 'SPIFFE-ID' },
  flags: {
    until: instantFlag('sign nothing for it until then, at the least; otherwise for as long as an SVID signed now would last'),
    ...revokeFlags
  },
  details: 'Nothing is signed for the ID and workloads lose it, until the revocation expires or is lifted. Then its entries serve it\n' +
    'again: to end it for good, delete them as well.',
  examples: [
    'assay revoke id spiffe://example.org/web -reason compromised --wait',
    'assay revoke id spiffe://example.org/web -until 2027-01-31T12:00:00Z --output json'
  ],
  async run (call) {
    const { argument, flags: { until } } = call
    const spiffeId = encodeSpiffeId(parseSpiffeId(argument))
    return revoke(call, { spiffeId, until: until === undefined ? 0n : BigInt(Math.ceil(until.getTime() / 1000)) })
  }
})
