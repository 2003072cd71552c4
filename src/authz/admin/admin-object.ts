import type { Entry } from '../../spiffe/entry.ts'
import type { ServiceDraft } from '../../spiffe/service.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'

/** Of an entry, what a role's scope is held against. */
export type EntryFacts =
  Pick<Entry, 'spiffeId' | 'parentId' | 'selectors' | 'federatesWith' | 'dnsNames' | 'admin' | 'downstream'>

export type ServiceFacts = Pick<ServiceDraft, 'name' | 'address' | 'ports' | 'spiffeIds' | 'callers'>

/** What a call is about. Calls about none, such as the cluster's state, are decided by their verb alone. */
export type AdminObject =
  | { readonly kind: 'entry', readonly entry: EntryFacts }
  | { readonly kind: 'agent', readonly id: SpiffeId }
  /** `alias`: the further ID that the node gets; `agentId`: the ID that follows from a token which the caller chose. */
  | { readonly kind: 'token', readonly agentId: SpiffeId | undefined, readonly alias: SpiffeId | undefined }
  /** `detaches`: deleting it may change or delete entries. */
  | { readonly kind: 'bundle', readonly trustDomain: TrustDomain, readonly detaches: boolean }
  | { readonly kind: 'federation', readonly trustDomain: TrustDomain }
  | { readonly kind: 'service', readonly service: ServiceFacts }
  | { readonly kind: 'svid', readonly id: SpiffeId, readonly dnsNames: readonly string[] }
  /** Of an ID, of one of its SVIDs, or of a node. */
  | { readonly kind: 'revocation', readonly of: 'svid' | 'spiffe_id' | 'node', readonly subject: SpiffeId }
