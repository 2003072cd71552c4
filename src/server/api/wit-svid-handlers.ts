import { type KeyObject, createPublicKey } from 'node:crypto'
import type { AgentView } from '../node-aliases.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { NewWITSVIDParams, SVIDHandlers } from '../../wire/generated/server-svid.ts'
import { itemRefused } from './item-status.ts'
import type { Limits } from './limits.ts'

export interface WitSvidDeps {
  readonly limits: Limits
  readonly agentOf: (context: CallContext) => AgentView
  /** @throws {SpiffeError} `entry_not_authorized`, `spiffe_id_revoked` */
  readonly requireEntry: (entryId: string, agent: AgentView) => unknown
}

const rsaAlgorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']
const ecAlgorithms: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' }

/**
 * WIT-SVIDs as a SPIRE server has them whose flag `wit-svid` is off (spire-surface §1.6): minting is not offered; a batch is checked as it
 * would be, and ends for want of a key.
 */
export function witSvidHandlers (
  { limits, agentOf, requireEntry }: WitSvidDeps
): Pick<SVIDHandlers<CallContext>, 'mintWITSVID' | 'batchNewWITSVID'> {
  return {
    async mintWITSVID () { throw new SpiffeError('wit_disabled', 'WIT functionality is disabled') },

    async batchNewWITSVID ({ params }, context) {
      const agent = agentOf(context)
      if (params.length === 0) throw new SpiffeError('argument_invalid', 'missing parameters')
      await limits.signing(context, params.length)
      return { results: params.map(item => ({ status: itemRefused(refusalOf(item, agent, requireEntry)) })) }
    }
  }
}

function refusalOf (item: NewWITSVIDParams, agent: AgentView, requireEntry: WitSvidDeps['requireEntry']): SpiffeError {
  try {
    const { entryId, publicKey, signingAlgorithm } = item
    if (entryId === '') throw new SpiffeError('argument_invalid', 'missing entry ID')
    if (publicKey.length === 0) throw new SpiffeError('argument_invalid', 'missing public key')
    requireEntry(entryId, agent)
    requireFit(readKey(publicKey), signingAlgorithm)
    return new SpiffeError('wit_key_missing', 'failed to sign WIT-SVID: WIT key is not available for signing')
  } catch (error) {
    if (error instanceof SpiffeError) return error
    throw error
  }
}

function readKey (der: Uint8Array): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' })
  } catch (cause) {
    throw new SpiffeError('argument_invalid', 'malformed public key', { cause })
  }
}

function requireFit ({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject, algorithm: string): void {
  const ofCurve = ecAlgorithms[asymmetricKeyDetails?.namedCurve ?? '']
  const fitting = asymmetricKeyType === 'rsa' ? rsaAlgorithms : ofCurve === undefined ? [] : [ofCurve]
  if (!fitting.includes(algorithm)) {
    throw new SpiffeError('argument_invalid', `invalid signing algorithm or key type: ${JSON.stringify(algorithm.slice(0, 16))}`)
  }
}
