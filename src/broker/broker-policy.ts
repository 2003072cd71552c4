import type { CallContext, TlsCaller } from '../rpc/call.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** What one broker may name; a type that is not in it is refused. */
export interface BrokerPolicy {
  /** By type URL; `*` alone stands for every type. */
  readonly allowedTypes: ReadonlyMap<string, { readonly allowOverTcp: boolean }>
}

export type BrokerPolicies = ReadonlyMap<SpiffeId, BrokerPolicy>

/**
 * Admits a broker by its SPIFFE ID and the header that no browser or careless proxy can be tricked into sending, before anything of the
 * request is read.
 * @throws {SpiffeError} `peer_unauthenticated`, `broker_not_authorized`, `security_header_missing`
 */
export function admitBroker (context: CallContext, brokers: BrokerPolicies): void {
  brokerOf(context, brokers)
  const values = context.metadata.get('broker.spiffe.io')
  if (values?.length !== 1 || values[0] !== 'true') {
    throw new SpiffeError('security_header_missing', 'security header missing from request', { requirement: 'BRE-03' })
  }
}

export interface Broker {
  readonly id: SpiffeId
  readonly caller: TlsCaller
  readonly policy: BrokerPolicy
}

/** @throws {SpiffeError} `peer_unauthenticated`, `broker_not_authorized` */
export function brokerOf ({ caller }: CallContext, brokers: BrokerPolicies): Broker {
  if (caller.kind !== 'tls' || caller.svid === undefined) {
    throw new SpiffeError('peer_unauthenticated', 'the caller shows no X509-SVID', { requirement: 'BRE-10' })
  }
  const policy = brokers.get(caller.svid.id)
  if (policy === undefined) throw new SpiffeError('broker_not_authorized', `${caller.svid.id} is not a broker`, { requirement: 'BRE-11' })
  return { id: caller.svid.id, caller, policy }
}

/** @throws {SpiffeError} `reference_not_allowed` */
export function checkTypeAllowed (typeUrl: string, { id: who, caller, policy }: Broker): void {
  const access = policy.allowedTypes.get('*') ?? policy.allowedTypes.get(typeUrl)
  if (access === undefined) throw new SpiffeError('reference_not_allowed', `${who} is not allowed to use reference type ${typeUrl}`)
  if (caller.scope !== 'unix' && !access.allowOverTcp) {
    throw new SpiffeError('reference_not_allowed', `reference type ${typeUrl} is not allowed over TCP for ${who}`)
  }
}
