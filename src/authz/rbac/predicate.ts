import { HttpRequestHeaderMatchInput } from '../../wire/generated/envoy-core.ts'
import { Ip } from '../../wire/generated/envoy-matching-ip.ts'
import { DestinationIPInput, DestinationPortInput, ServerNameInput } from '../../wire/generated/envoy-matching-network.ts'
import type { XdsTypedExtensionConfigInit } from '../../wire/generated/xds-core.ts'
import type { XdsMatcher_MatcherList_PredicateInit as PredicateInit } from '../../wire/generated/xds-matcher.ts'
import { extension } from './extension.ts'
import type { Formula, Subject } from './formula.ts'
import { addressInput, peerInput, type PeerSource } from './peer.ts'
import { cidrRange } from './policy-list.ts'
import { xdsStringMatch } from './string-match.ts'

/** A condition as Envoy's matching API has it. @param formula no constant */
export function predicate (formula: Exclude<Formula, boolean>, peer: PeerSource): PredicateInit {
  if ('all' in formula) return { andMatcher: { predicate: formula.all.map(one => predicate(inside(one), peer)) } }
  if ('any' in formula) return { orMatcher: { predicate: formula.any.map(one => predicate(inside(one), peer)) } }
  if ('not' in formula) return { notMatcher: predicate(inside(formula.not), peer) }
  if ('unsayable' in formula) throw new Error(`nobody looked: ${formula.unsayable}`)
  if ('text' in formula) return { singlePredicate: { input: textInput(formula.subject, peer), valueMatch: xdsStringMatch(formula.text) } }
  const customMatch = extension('envoy.matching.matchers.ip', Ip, { cidrRanges: [cidrRange(formula.network)], statPrefix: 'rbac' })
  return { singlePredicate: { input: formula.of === 'destination' ? destination : addressInput(formula.of, peer), customMatch } }
}

/** `all`, `any` and `not` leave none inside. */
function inside (formula: Formula): Exclude<Formula, boolean> {
  if (typeof formula === 'boolean') throw new Error('a constant inside of a condition')
  return formula
}

export function textInput (subject: Subject, peer: PeerSource): XdsTypedExtensionConfigInit {
  if (subject === 'peer') return peerInput(peer)
  if (subject === 'sni') return serverName
  if (subject === 'port') return port
  return extension('envoy.matching.inputs.request_headers', HttpRequestHeaderMatchInput, { headerName: subject.header })
}

const serverName = extension('envoy.matching.inputs.server_name', ServerNameInput, {})
const port = extension('envoy.matching.inputs.destination_port', DestinationPortInput, {})
const destination = extension('envoy.matching.inputs.destination_ip', DestinationIPInput, {})
