import type { PrincipalInit } from '../../wire/generated/envoy-rbac.ts'
import { FilterStateInput } from '../../wire/generated/envoy-matching-network.ts'
import { UriSanInput } from '../../wire/generated/envoy-matching-ssl.ts'
import type { XdsTypedExtensionConfigInit } from '../../wire/generated/xds-core.ts'
import { extension } from './extension.ts'
import type { TextMatch } from './formula.ts'
import { stringMatch } from './string-match.ts'

/**
 * Whence Envoy knows the caller: the URI SAN of the connection's client certificate, or filter state that an earlier filter made of it, for
 * streams that came through a tunnel.
 */
export type PeerSource = 'certificate' | { readonly filterState: string }

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
