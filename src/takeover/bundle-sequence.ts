import type { CallOptions, Channel } from '../rpc/channel.ts'
import { mostRaisedSequence } from '../spiffe/bundle-change.ts'
import { federationService } from '../wire/generated/federation.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'

/** Both servers' bundles of one trust domain, which partners take for one that grows. */
export interface BundleSequences {
  readonly there: bigint
  readonly here: bigint
}

/**
 * To what our bundle's number is to be raised, so that who has SPIRE's takes ours for a newer one. `undefined`: it is newer already,
 * or SPIRE's is beyond what any is raised to.
 */
export function raisedSequence ({ there, here }: BundleSequences): bigint | undefined {
  return here > there || there >= mostRaisedSequence ? undefined : there + 1n
}

export async function readSequences (there: Channel, ours: Channel, options: CallOptions): Promise<BundleSequences> {
  const ask = async (channel: Channel) =>
    (await channel.client(bundleService).getBundle({ outputMask: { sequenceNumber: true } }, options)).sequenceNumber
  const [spires, own] = await Promise.all([ask(there), ask(ours)])
  return { there: spires, here: own }
}

/** Never lowers it, and may be repeated. */
export async function raiseSequence (ours: Channel, sequenceNumber: bigint, options: CallOptions): Promise<void> {
  await ours.client(federationService).raiseBundleSequence({ sequenceNumber }, options)
}

/** More than SPIRE's server can have counted on between the last round and its end. */
const margin = 1_000n

/** To what our bundle's number is raised where nobody can ask any more which one partners had from SPIRE last. */
export function sequenceBeyond (last: bigint): bigint { return last + margin > mostRaisedSequence ? mostRaisedSequence : last + margin }
