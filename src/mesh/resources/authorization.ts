import { compileRbac } from '../../authz/rbac/compile-rbac.ts'
import type { Extension } from '../../authz/rbac/extension.ts'
import type { PeerSource } from '../../authz/rbac/peer.ts'
import { rbacExtension, refuseEverything } from '../../authz/rbac/rbac-filter.ts'
import type { HttpFilterInit } from '../../wire/generated/envoy-http-connection-manager.ts'
import type { FilterInit } from '../../wire/generated/envoy-listener.ts'
import type { MeshPolicies, MeshWorkload } from '../mesh-state.ts'
import { askAboutConnection, askAboutRequest, type Wire } from './ask-agent.ts'
import { key } from './filter-state.ts'

/** What the trust domain's policies make of the chains of one workload; in front of all that passes anything on to it. */
export interface Authorization {
  /** For bytes of which nothing is known but who sends them. */
  network (wire: Wire): FilterInit[]
  http (wire: Wire): HttpFilterInit[]
}

const peers: Readonly<Record<Wire, PeerSource>> = {
  direct: 'certificate',
  tunnelled: { filterState: key.peer, address: key.source },
  // Without TLS Envoy cannot look at a certificate, not even at one that is missing; this state is then missing too.
  plaintext: { filterState: key.peer }
}

/**
 * Rules that Envoy can be told are its own filters; of a workload with others each request is asked about at the agent.
 * @returns `undefined` where there are no policies
 */
export function authorizationOf ({ id }: Pick<MeshWorkload, 'id'>, policies: MeshPolicies): Authorization | undefined {
  switch (policies.kind) {
    case 'none': return undefined
    // Nobody may be let in because no rule is known that refuses.
    case 'unknown': return { network: () => [refuseAll('network')], http: () => [refuseAll('http')] }
    case 'set': break
  }
  // Each port that speaks HTTP has a chain with the same.
  const known = new Map<string, Extension[]>()
  const filters = (kind: 'network' | 'http', wire: Wire, ask: typeof askAboutConnection): Extension[] => {
    const made = known.get(`${kind} ${wire}`)
    if (made !== undefined) return made
    const { filters, external } = compileRbac(policies.set, id, { kind, peer: peers[wire] })
    const fresh = external.length > 0 ? [ask(id, wire)] : [...filters]
    known.set(`${kind} ${wire}`, fresh)
    return fresh
  }
  return { network: wire => filters('network', wire, askAboutConnection), http: wire => filters('http', wire, askAboutRequest) }
}

function refuseAll (kind: 'network' | 'http'): Extension { return rbacExtension(refuseEverything, kind) }
