import type { PrincipalInit } from '../../wire/generated/envoy-rbac.ts'
import { DirectSourceIPInput, FilterStateInput, SourceIPInput } from '../../wire/generated/envoy-matching-network.ts'
import { UriSanInput } from '../../wire/generated/envoy-matching-ssl.ts'
import type { XdsTypedExtensionConfigInit } from '../../wire/generated/xds-core.ts'
import { extension } from './extension.ts'
import type { TextMatch } from './formula.ts'
import { stringMatch } from './string-match.ts'

/**
 * Whence Envoy knows the caller: the URI SAN of the connection's client certificate, or filter state that an earlier filter made of it, for
 * streams that came through a tunnel.
 */
export type PeerSource = 'certificate' | FilterStatePeer

/** Names of the filter state. */
export interface FilterStatePeer {
  readonly filterState: string
  /** The caller's IP address as text, where it is not that of the connection's other end. */
  readonly address?: string
}

export function peerPrincipal (source: PeerSource, text: TextMatch): PrincipalInit {
  return source === 'certificate'
    ? { authenticated: { principalName: stringMatch(text) } }
    : { filterState: { key: source.filterState, stringMatch: stringMatch(text) } }
}

/** Several URI SANs come as one text, with commas. */
export function peerInput (source: PeerSource): XdsTypedExtensionConfigInit {
  return source === 'certificate'
    ? extension('envoy.matching.inputs.uri_san', UriSanInput, {})
    : extension('envoy.matching.inputs.filter_state', FilterStateInput, { key: source.filterState })
}

/** Whether the list of policies has no words for the caller's address. */
export function isAddressInState (source: PeerSource): boolean { return source !== 'certificate' && source.address !== undefined }

/** `direct`: the other end's; `remote`: the first caller's, as trusted proxies tell it. In filter state there is one for both. */
export function addressInput (of: 'direct' | 'remote', source: PeerSource): XdsTypedExtensionConfigInit {
  if (source !== 'certificate' && source.address !== undefined) {
    return extension('envoy.matching.inputs.filter_state', FilterStateInput, { key: source.address })
  }
  return of === 'direct'
    ? extension('envoy.matching.inputs.direct_source_ip', DirectSourceIPInput, {})
    : extension('envoy.matching.inputs.source_ip', SourceIPInput, {})
}
