import type { CidrRangeInit } from '../../wire/generated/envoy-core.ts'
import {
  RBAC_Action as Action, type PermissionInit, type PolicyInit, type PrincipalInit, type RBACInit
} from '../../wire/generated/envoy-rbac.ts'
import type { Network } from '../policy/match.ts'
import type { Formula } from './formula.ts'
import { type PeerSource, peerPrincipal } from './peer.ts'
import type { RuleFormula } from './rule-formula.ts'
import { stringMatch } from './string-match.ts'

export type ListedRule = Pick<RuleFormula, 'name' | 'caller' | 'rest'>

/**
 * The rules as the list of policies that Envoy walks, in the order of their names: of several that apply, the first by name is the one
 * that Envoy names.
 */
export function policyList (action: keyof typeof Action, rules: readonly ListedRule[], peer: PeerSource): RBACInit {
  const policies = new Map<string, { permissions: PermissionInit[], principals: string, policy: PolicyInit }>()
  for (const { name, caller, rest } of rules) {
    const principals = alternatives(caller).map(one => principal(one, peer))
    const permissions = alternatives(rest).map(permission)
    const key = JSON.stringify(principals)
    // One rule of a document may be several here, which differ in what they let do or in whom.
    const known = policies.get(name)
    if (known?.principals === key) {
      known.permissions.push(...permissions)
      continue
    }
    let free = name
    for (let i = 2; policies.has(free); i++) free = `${name}#${i}`
    policies.set(free, { permissions, principals: key, policy: { permissions, principals } })
  }
  const sorted = [...policies].toSorted(([a], [b]) => a < b ? -1 : 1)
  return { action: Action[action], policies: new Map(sorted.map(([name, { policy }]) => [name, policy])) }
}

function alternatives (formula: Formula): readonly Formula[] {
  return typeof formula === 'object' && 'any' in formula ? formula.any : [formula]
}

/** @param formula about anything but the caller */
function permission (formula: Formula): PermissionInit {
  if (formula === true) return { any: true }
  if (formula === false) return { notRule: { any: true } }
  if ('all' in formula) return { andRules: { rules: formula.all.map(permission) } }
  if ('any' in formula) return { orRules: { rules: formula.any.map(permission) } }
  if ('not' in formula) return { notRule: permission(formula.not) }
  if ('unsayable' in formula) throw new Error(`nobody looked: ${formula.unsayable}`)
  if ('of' in formula) return { destinationIp: cidrRange(formula.network) }
  const { subject, text } = formula
  if (subject === 'sni') return { requestedServerName: stringMatch(text) }
  if (subject === 'port') return { destinationPort: Number('exact' in text ? text.exact : Number.NaN) }
  return { header: { name: (subject as { header: string }).header, stringMatch: stringMatch(text) } }
}

/** @param formula about the caller */
function principal (formula: Formula, peer: PeerSource): PrincipalInit {
  if (formula === true) return { any: true }
  if (formula === false) return { notId: { any: true } }
  if ('all' in formula) return { andIds: { ids: formula.all.map(one => principal(one, peer)) } }
  if ('any' in formula) return { orIds: { ids: formula.any.map(one => principal(one, peer)) } }
  if ('not' in formula) return { notId: principal(formula.not, peer) }
  if ('unsayable' in formula) throw new Error(`nobody looked: ${formula.unsayable}`)
  if ('text' in formula) return peerPrincipal(peer, formula.text)
  return formula.of === 'direct' ? { directRemoteIp: cidrRange(formula.network) } : { remoteIp: cidrRange(formula.network) }
}

export function cidrRange ({ text }: Network): CidrRangeInit {
  const [addressPrefix, bits] = text.split('/')
  return { addressPrefix, prefixLen: { value: Number(bits) } }
}
