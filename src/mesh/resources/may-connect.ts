import { celPeer, type CelRefusal, celText, nobodyAllowed, nobodyRefused } from '../../authz/rbac/cel.ts'
import type { FilterStateValueInit } from '../../wire/generated/envoy-filter-state-value.ts'
import type { Access } from '../access.ts'
import { beforePolicies } from '../decisions/report-form.ts'
import type { CallerPattern, MeshWorkload, Revoked } from '../mesh-state.ts'
import { hashable, key, namespaceState, text } from './filter-state.ts'

/** Where no namespace is: connecting fails. */
const nowhere = '/dev/null/nobody'

/**
 * Who refuses a connection of bytes, and the namespace in which it reaches its workload: there is none where somebody refuses. Envoy's
 * rules for connections are asked when the caller's first byte comes, and by then what a workload says first would be out: this is settled
 * with the handshake, before anything is connected. The verdict is part of the pool's key: nobody is given another's connection.
 */
export function reachState (verdicts: FilterStateValueInit[], { netnsPath }: Pick<MeshWorkload, 'netnsPath'>): FilterStateValueInit[] {
  return [...verdicts, namespaceState(`%CEL(${isAllowed} ? ${celText(netnsPath)} : ${celText(nowhere)})%`)]
}

/**
 * @param steps CEL that gives `allowed` or a name, see `celOfVerdict`; a step that cannot be worked out refuses
 * @param before whether an earlier filter has a verdict, which stays when it refuses
 */
export function verdictStates (steps: readonly string[], before: 'first' | 'after'): FilterStateValueInit[] {
  return steps.map((step, index) => verdictState(index === 0 && before === 'first' ? step : `${isAllowed} ? (${step}) : ${said}`))
}

/** For streams of tunnels: those that are read as HTTP are let in, since it is requests that are decided about. */
export function streamVerdictStates (steps: readonly string[]): FilterStateValueInit[] {
  return verdictStates(steps.map(step => `filter_state['${key.readsRequests}'] == b'yes' ? ${celText(nobodyRefused)} : (${step})`), 'first')
}

/** Whether a stream of a tunnel is read as HTTP. */
export function readsRequestsState (condition: string): FilterStateValueInit {
  return { objectKey: key.readsRequests, factoryKey: 'envoy.string', formatString: text(`%CEL(${condition} ? 'yes' : 'no')%`) }
}

function verdictState (verdict: string): FilterStateValueInit { return hashable(key.verdict, `%CEL(${verdict})%`) }

const said = `filter_state['${key.verdict}']`
const isAllowed = `${said} == b${celText(nobodyRefused)}`

/** As `networkRules` and `denyPeers` have it. */
export function callersOfBytes ({ ports, others }: Access, { digests, ids }: Revoked, proxyPorts: readonly number[]): CelRefusal[] {
  const named = [...proxyPorts, ...ports.map(({ port }) => port)]
  const allowed = [
    ...ports.filter(({ http }) => !http).map(({ port, callers }) => `(destination.port == ${port} && ${isOneOf(callers)})`),
    `(!(destination.port in [${named.join(', ')}]) && ${isOneOf(others)})`
  ]
  const revoked = [
    ...inParts([...ids].toSorted(), 20).map(isOneOf),
    ...inParts([...digests].toSorted(), 500).map(some => `connection.sha256_peer_certificate_digest in [${some.map(celText).join(', ')}]`)
  ]
  return [
    { name: beforePolicies.severalNames, when: severalNames },
    ...revoked.map(when => ({ name: beforePolicies.revoked, when })),
    { name: nobodyAllowed, when: `!(${allowed.join(' || ')})` }
  ]
}

/** Of which each is short enough for an expression. */
function inParts<T> (all: readonly T[], most: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / most) }, (_, part) => all.slice(part * most, (part + 1) * most))
}

/** Filter state has all names of a certificate; CEL has it as bytes, and no words to look into these. */
const severalNames = `size(filter_state['${key.peer}']) != size(${celPeer})`

/** `spiffe://td/path/*` is everybody whose ID begins so; anything else is exactly that ID. */
function isOneOf (patterns: readonly CallerPattern[]): string {
  const exact = patterns.filter(pattern => !pattern.endsWith('/*'))
  const prefixes = patterns.filter(pattern => pattern.endsWith('/*')).map(pattern => pattern.slice(0, -1))
  const ways = [
    ...exact.length === 0 ? [] : [`${celPeer} in [${exact.map(celText).join(', ')}]`],
    ...prefixes.map(prefix => `${celPeer}.startsWith(${celText(prefix)})`)
  ]
  return ways.length === 0 ? 'false' : `(${ways.join(' || ')})`
}
